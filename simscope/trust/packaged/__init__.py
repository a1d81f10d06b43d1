"""The studies that come with simscope, one YAML file each."""
