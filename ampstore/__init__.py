"""ampstore: shelve done right for atomistic machine learning."""
