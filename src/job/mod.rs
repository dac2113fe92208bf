//! What goes into a job: the shape that its body must have, its environment, its labels, its name, and a check of the
//! finished body.

pub mod check;
pub mod env;
pub mod labels;
pub mod name;
pub mod skeleton;
