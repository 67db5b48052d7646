"""The scenario files that come with fedkt: one YAML file per experiment, found by name."""
