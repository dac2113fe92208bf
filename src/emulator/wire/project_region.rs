//! Projects and regions: together they are the scope in which names are unique.

use super::error::ApiRefusal;
use crate::api::types::API_VERSION;

/// What identifies a project and region: the project's number, and the region.
pub(crate) type ProjectRegionKey = (String, &'static str);

/// A project and a region of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct ProjectRegion {
    /// The project's id or number, as this call names it.
    pub(crate) project: String,
    /// The project's number, which identifies it.
    pub(crate) number: String,
    pub(crate) region: &'static str,
}

impl ProjectRegion {
    /// A region of the project with this id or number.
    pub(crate) fn new(project: &str, region: &'static str) -> Self {
        Self { project: project.to_owned(), number: project_number(project), region }
    }

    pub(crate) fn key(&self) -> ProjectRegionKey {
        (self.number.clone(), self.region)
    }

    pub(crate) fn no_such_job(&self, name: &str) -> ApiRefusal {
        ApiRefusal::no_such("JOB", name, self.region, &self.project)
    }

    pub(crate) fn no_such_execution(&self, name: &str) -> ApiRefusal {
        ApiRefusal::no_such("EXECUTION", name, self.region, &self.project)
    }

    pub(crate) fn no_such_task(&self, name: &str) -> ApiRefusal {
        ApiRefusal::no_such("TASK", name, self.region, &self.project)
    }

    /// The `selfLink` of a resource in this project; `collection` is `jobs`, `executions` or `tasks`.
    pub(crate) fn self_link(&self, collection: &str, name: &str) -> String {
        format!("/apis/{API_VERSION}/namespaces/{}/{collection}/{name}", self.number)
    }
}

/// The number of the project with this id or number. People write ids; the API's responses have numbers. The emulator
/// derives twelve digits from an id and keeps a number as it is.
pub(crate) fn project_number(project: &str) -> String {
    if !project.is_empty() && project.bytes().all(|byte| byte.is_ascii_digit()) {
        return project.to_owned();
    }
    // FNV-1a: short, and the same in every process and version.
    let hash = project
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    (100_000_000_000 + hash % 900_000_000_000).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_number_is_stable_and_its_own_number() {
        let number = project_number("my-project");
        assert_eq!(number.len(), 12);
        assert_eq!(project_number(&number), number);
        assert_eq!(project_number("my-project"), number);
        assert_ne!(project_number("my-project-2"), number);
    }
}
