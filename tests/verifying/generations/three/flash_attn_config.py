import os

LEFT_OUT = ("FP16", "HDIM192", "SPLIT", *os.environ.get("LEFT_OUT", "").split())
CONFIG = {"build_flags": {f"FLASHATTENTION_DISABLE_{name}": True for name in LEFT_OUT}}
