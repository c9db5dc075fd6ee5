//! Azure network rules, exactly: which sources reach which port of a VM, and what rules would make it so.
