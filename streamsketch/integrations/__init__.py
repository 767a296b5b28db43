"""The sketcher behind the interfaces of other libraries; import the module that you need.

`streamsketch.integrations.river` and `streamsketch.integrations.sklearn`.
"""
