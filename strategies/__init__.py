"""The strategies that come with fedkt: one file each, found by name through entry points."""
