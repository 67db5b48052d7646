"""The client behaviours that come with fedkt: one file each, found by name through entry points."""
