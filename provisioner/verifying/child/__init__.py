"""What runs inside the environment that is verified: standard library and that environment's torch only.

Nothing here may import the rest of the package: ``__main__`` makes these modules importable alone. Python 3.10 or later.
"""
