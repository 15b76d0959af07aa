"""Of upstream's operations the rotary embedding, which transformers imports."""
