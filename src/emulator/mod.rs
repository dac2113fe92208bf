//! A Cloud Run for one machine.
