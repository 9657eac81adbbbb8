"""Many widgets listen and poll while others write, also while the server's processes are replaced."""
