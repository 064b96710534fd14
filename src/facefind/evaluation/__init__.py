"""Published measuring protocols, one file each."""
