"""The databases that collections are moved from, one file each."""
