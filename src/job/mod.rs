//! What the worker puts into a job: the base body that every job has, its environment, its labels, its name and its mark. Also the
//! check of the finished body.

pub mod base_body;
pub mod check;
pub mod env;
pub mod labels;
pub mod mark;
pub mod name;
