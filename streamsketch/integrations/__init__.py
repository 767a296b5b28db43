"""The sketcher behind the interfaces of other libraries; import the module that you need.

`streamsketch.integrations.river`, `sklearn`, `torch` (an endless data set) and `sdv` (its verbs and metadata).
"""
