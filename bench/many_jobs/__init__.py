"""How the operator bears many jobs at once, on nodes whose pods do not exist."""
