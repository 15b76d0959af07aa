CONFIG = {
    "build_flags": {
        "FLASHATTENTION_DISABLE_FP16": True,
        "FLASHATTENTION_DISABLE_HDIM192": True,
        "FLASHATTENTION_DISABLE_SPLIT": True,
    }
}
