"""Hydra finds its sweepers and launchers in the namespace `hydra_plugins`; these are configured
in conf/hydra. Hydra imports every module here at each start: what is heavy waits until it is used.
"""
