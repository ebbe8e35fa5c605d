"""The embedded demo set: species, how one is drawn, how the set is made."""
