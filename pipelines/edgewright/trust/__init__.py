"""Keys and desired state: who may sign, which artifacts exist, who should run which, and how fresh."""
