__version__ = "2.6.0a0+ecf3bae40a.nv25.01"
debug = False
cuda = "12.8"
