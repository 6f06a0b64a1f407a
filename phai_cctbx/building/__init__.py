"""From a map to atoms: peaks, elements, hydrogens and known molecules."""
