//! Check: what must hold for every input, shared by the property tests and the fuzz target.
