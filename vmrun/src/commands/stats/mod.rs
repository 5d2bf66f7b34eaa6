//! `vmrun stats`

mod usage;
