"""Of upstream's layers the rotary embedding, which transformers imports."""
