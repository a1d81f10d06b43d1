"""The recipes that come with simscope, one YAML file each."""
