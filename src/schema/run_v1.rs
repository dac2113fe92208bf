//! The messages of the Cloud Run Admin API v1, revision 20261031 of its discovery document.
//!
//! Made by `make schema`; not to be changed by hand.

use super::Kind::{Bool, Int32, Int64, List, Message as Sub, Text, TextMap};
use super::Message;

/// Schema `CSIVolumeSource`.
pub static CSI_VOLUME_SOURCE: Message =
    Message { name: "CSIVolumeSource", fields: &[("driver", Text), ("readOnly", Bool), ("volumeAttributes", TextMap)] };
/// Schema `CancelExecutionRequest`.
pub static CANCEL_EXECUTION_REQUEST: Message = Message { name: "CancelExecutionRequest", fields: &[] };
/// Schema `ConfigMapEnvSource`.
pub static CONFIG_MAP_ENV_SOURCE: Message = Message {
    name: "ConfigMapEnvSource",
    fields: &[("localObjectReference", Sub(&LOCAL_OBJECT_REFERENCE)), ("name", Text), ("optional", Bool)],
};
/// Schema `ConfigMapKeySelector`.
pub static CONFIG_MAP_KEY_SELECTOR: Message = Message {
    name: "ConfigMapKeySelector",
    fields: &[
        ("key", Text),
        ("localObjectReference", Sub(&LOCAL_OBJECT_REFERENCE)),
        ("name", Text),
        ("optional", Bool),
    ],
};
/// Schema `ConfigMapVolumeSource`.
pub static CONFIG_MAP_VOLUME_SOURCE: Message = Message {
    name: "ConfigMapVolumeSource",
    fields: &[("defaultMode", Int32), ("items", List(&Sub(&KEY_TO_PATH))), ("name", Text), ("optional", Bool)],
};
/// Schema `Container`.
pub static CONTAINER: Message = Message {
    name: "Container",
    fields: &[
        ("args", List(&Text)),
        ("command", List(&Text)),
        ("env", List(&Sub(&ENV_VAR))),
        ("envFrom", List(&Sub(&ENV_FROM_SOURCE))),
        ("image", Text),
        ("imagePullPolicy", Text),
        ("livenessProbe", Sub(&PROBE)),
        ("name", Text),
        ("ports", List(&Sub(&CONTAINER_PORT))),
        ("readinessProbe", Sub(&PROBE)),
        ("resources", Sub(&RESOURCE_REQUIREMENTS)),
        ("sandboxLauncher", Bool),
        ("securityContext", Sub(&SECURITY_CONTEXT)),
        ("startupProbe", Sub(&PROBE)),
        ("terminationMessagePath", Text),
        ("terminationMessagePolicy", Text),
        ("volumeMounts", List(&Sub(&VOLUME_MOUNT))),
        ("workingDir", Text),
    ],
};
/// Schema `ContainerOverride`.
pub static CONTAINER_OVERRIDE: Message = Message {
    name: "ContainerOverride",
    fields: &[("args", List(&Text)), ("clearArgs", Bool), ("env", List(&Sub(&ENV_VAR))), ("name", Text)],
};
/// Schema `ContainerPort`.
pub static CONTAINER_PORT: Message =
    Message { name: "ContainerPort", fields: &[("containerPort", Int32), ("name", Text), ("protocol", Text)] };
/// Schema `EmptyDirVolumeSource`.
pub static EMPTY_DIR_VOLUME_SOURCE: Message =
    Message { name: "EmptyDirVolumeSource", fields: &[("medium", Text), ("sizeLimit", Text)] };
/// Schema `EnvFromSource`.
pub static ENV_FROM_SOURCE: Message = Message {
    name: "EnvFromSource",
    fields: &[("configMapRef", Sub(&CONFIG_MAP_ENV_SOURCE)), ("prefix", Text), ("secretRef", Sub(&SECRET_ENV_SOURCE))],
};
/// Schema `EnvVar`.
pub static ENV_VAR: Message =
    Message { name: "EnvVar", fields: &[("name", Text), ("value", Text), ("valueFrom", Sub(&ENV_VAR_SOURCE))] };
/// Schema `EnvVarSource`.
pub static ENV_VAR_SOURCE: Message = Message {
    name: "EnvVarSource",
    fields: &[("configMapKeyRef", Sub(&CONFIG_MAP_KEY_SELECTOR)), ("secretKeyRef", Sub(&SECRET_KEY_SELECTOR))],
};
/// Schema `ExecAction`.
pub static EXEC_ACTION: Message = Message { name: "ExecAction", fields: &[("command", List(&Text))] };
/// Schema `Execution`.
pub static EXECUTION: Message = Message {
    name: "Execution",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("metadata", Sub(&OBJECT_META)),
        ("spec", Sub(&EXECUTION_SPEC)),
        ("status", Sub(&EXECUTION_STATUS)),
    ],
};
/// Schema `ExecutionReference`.
pub static EXECUTION_REFERENCE: Message = Message {
    name: "ExecutionReference",
    fields: &[
        ("completionStatus", Text),
        ("completionTimestamp", Text),
        ("creationTimestamp", Text),
        ("deletionTimestamp", Text),
        ("name", Text),
    ],
};
/// Schema `ExecutionSpec`.
pub static EXECUTION_SPEC: Message = Message {
    name: "ExecutionSpec",
    fields: &[
        ("delayExecution", Bool),
        ("parallelism", Int32),
        ("taskCount", Int32),
        ("template", Sub(&TASK_TEMPLATE_SPEC)),
    ],
};
/// Schema `ExecutionStatus`.
pub static EXECUTION_STATUS: Message = Message {
    name: "ExecutionStatus",
    fields: &[
        ("cancelledCount", Int32),
        ("completionTime", Text),
        ("conditions", List(&Sub(&GOOGLE_CLOUD_RUN_V1_CONDITION))),
        ("failedCount", Int32),
        ("logUri", Text),
        ("observedGeneration", Int32),
        ("retriedCount", Int32),
        ("runningCount", Int32),
        ("startTime", Text),
        ("succeededCount", Int32),
    ],
};
/// Schema `ExecutionTemplateSpec`.
pub static EXECUTION_TEMPLATE_SPEC: Message = Message {
    name: "ExecutionTemplateSpec",
    fields: &[("metadata", Sub(&OBJECT_META)), ("spec", Sub(&EXECUTION_SPEC))],
};
/// Schema `FilestoreVolumeSource`.
pub static FILESTORE_VOLUME_SOURCE: Message = Message { name: "FilestoreVolumeSource", fields: &[("volume", Text)] };
/// Schema `GRPCAction`.
pub static GRPC_ACTION: Message = Message { name: "GRPCAction", fields: &[("port", Int32), ("service", Text)] };
/// Schema `GoogleCloudRunV1Condition`.
pub static GOOGLE_CLOUD_RUN_V1_CONDITION: Message = Message {
    name: "GoogleCloudRunV1Condition",
    fields: &[
        ("lastTransitionTime", Text),
        ("message", Text),
        ("reason", Text),
        ("severity", Text),
        ("status", Text),
        ("type", Text),
    ],
};
/// Schema `HTTPGetAction`.
pub static HTTP_GET_ACTION: Message = Message {
    name: "HTTPGetAction",
    fields: &[
        ("host", Text),
        ("httpHeaders", List(&Sub(&HTTP_HEADER))),
        ("path", Text),
        ("port", Int32),
        ("scheme", Text),
    ],
};
/// Schema `HTTPHeader`.
pub static HTTP_HEADER: Message = Message { name: "HTTPHeader", fields: &[("name", Text), ("value", Text)] };
/// Schema `Job`.
pub static JOB: Message = Message {
    name: "Job",
    fields: &[
        ("apiVersion", Text),
        ("kind", Text),
        ("metadata", Sub(&OBJECT_META)),
        ("spec", Sub(&JOB_SPEC)),
        ("status", Sub(&JOB_STATUS)),
    ],
};
/// Schema `JobSpec`.
pub static JOB_SPEC: Message = Message {
    name: "JobSpec",
    fields: &[("runExecutionToken", Text), ("startExecutionToken", Text), ("template", Sub(&EXECUTION_TEMPLATE_SPEC))],
};
/// Schema `JobStatus`.
pub static JOB_STATUS: Message = Message {
    name: "JobStatus",
    fields: &[
        ("conditions", List(&Sub(&GOOGLE_CLOUD_RUN_V1_CONDITION))),
        ("executionCount", Int32),
        ("latestCreatedExecution", Sub(&EXECUTION_REFERENCE)),
        ("observedGeneration", Int32),
    ],
};
/// Schema `KeyToPath`.
pub static KEY_TO_PATH: Message =
    Message { name: "KeyToPath", fields: &[("key", Text), ("mode", Int32), ("path", Text)] };
/// Schema `ListExecutionsResponse`.
pub static LIST_EXECUTIONS_RESPONSE: Message = Message {
    name: "ListExecutionsResponse",
    fields: &[
        ("apiVersion", Text),
        ("items", List(&Sub(&EXECUTION))),
        ("kind", Text),
        ("metadata", Sub(&LIST_META)),
        ("unreachable", List(&Text)),
    ],
};
/// Schema `ListJobsResponse`.
pub static LIST_JOBS_RESPONSE: Message = Message {
    name: "ListJobsResponse",
    fields: &[
        ("apiVersion", Text),
        ("items", List(&Sub(&JOB))),
        ("kind", Text),
        ("metadata", Sub(&LIST_META)),
        ("unreachable", List(&Text)),
    ],
};
/// Schema `ListMeta`.
pub static LIST_META: Message =
    Message { name: "ListMeta", fields: &[("continue", Text), ("resourceVersion", Text), ("selfLink", Text)] };
/// Schema `LocalObjectReference`.
pub static LOCAL_OBJECT_REFERENCE: Message = Message { name: "LocalObjectReference", fields: &[("name", Text)] };
/// Schema `NFSVolumeSource`.
pub static NFS_VOLUME_SOURCE: Message =
    Message { name: "NFSVolumeSource", fields: &[("path", Text), ("readOnly", Bool), ("server", Text)] };
/// Schema `ObjectMeta`.
pub static OBJECT_META: Message = Message {
    name: "ObjectMeta",
    fields: &[
        ("annotations", TextMap),
        ("clusterName", Text),
        ("creationTimestamp", Text),
        ("deletionGracePeriodSeconds", Int32),
        ("deletionTimestamp", Text),
        ("finalizers", List(&Text)),
        ("generateName", Text),
        ("generation", Int32),
        ("labels", TextMap),
        ("name", Text),
        ("namespace", Text),
        ("ownerReferences", List(&Sub(&OWNER_REFERENCE))),
        ("resourceVersion", Text),
        ("selfLink", Text),
        ("uid", Text),
    ],
};
/// Schema `Overrides`.
pub static OVERRIDES: Message = Message {
    name: "Overrides",
    fields: &[
        ("containerOverrides", List(&Sub(&CONTAINER_OVERRIDE))),
        ("delayExecution", Bool),
        ("taskCount", Int32),
        ("timeoutSeconds", Int32),
    ],
};
/// Schema `OwnerReference`.
pub static OWNER_REFERENCE: Message = Message {
    name: "OwnerReference",
    fields: &[
        ("apiVersion", Text),
        ("blockOwnerDeletion", Bool),
        ("controller", Bool),
        ("kind", Text),
        ("name", Text),
        ("uid", Text),
    ],
};
/// Schema `Probe`.
pub static PROBE: Message = Message {
    name: "Probe",
    fields: &[
        ("exec", Sub(&EXEC_ACTION)),
        ("failureThreshold", Int32),
        ("grpc", Sub(&GRPC_ACTION)),
        ("httpGet", Sub(&HTTP_GET_ACTION)),
        ("initialDelaySeconds", Int32),
        ("periodSeconds", Int32),
        ("successThreshold", Int32),
        ("tcpSocket", Sub(&TCP_SOCKET_ACTION)),
        ("timeoutSeconds", Int32),
    ],
};
/// Schema `ResourceRequirements`.
pub static RESOURCE_REQUIREMENTS: Message =
    Message { name: "ResourceRequirements", fields: &[("limits", TextMap), ("requests", TextMap)] };
/// Schema `RunJobRequest`.
pub static RUN_JOB_REQUEST: Message = Message { name: "RunJobRequest", fields: &[("overrides", Sub(&OVERRIDES))] };
/// Schema `SandboxConfiguration`.
pub static SANDBOX_CONFIGURATION: Message =
    Message { name: "SandboxConfiguration", fields: &[("templates", List(&Sub(&SANDBOX_TEMPLATE)))] };
/// Schema `SandboxTemplate`.
pub static SANDBOX_TEMPLATE: Message = Message {
    name: "SandboxTemplate",
    fields: &[
        ("args", List(&Text)),
        ("command", List(&Text)),
        ("env", List(&Sub(&ENV_VAR))),
        ("image", Text),
        ("name", Text),
        ("volumeMounts", List(&Sub(&VOLUME_MOUNT))),
        ("workingDir", Text),
    ],
};
/// Schema `SecretEnvSource`.
pub static SECRET_ENV_SOURCE: Message = Message {
    name: "SecretEnvSource",
    fields: &[("localObjectReference", Sub(&LOCAL_OBJECT_REFERENCE)), ("name", Text), ("optional", Bool)],
};
/// Schema `SecretKeySelector`.
pub static SECRET_KEY_SELECTOR: Message = Message {
    name: "SecretKeySelector",
    fields: &[
        ("key", Text),
        ("localObjectReference", Sub(&LOCAL_OBJECT_REFERENCE)),
        ("name", Text),
        ("optional", Bool),
    ],
};
/// Schema `SecretVolumeSource`.
pub static SECRET_VOLUME_SOURCE: Message = Message {
    name: "SecretVolumeSource",
    fields: &[("defaultMode", Int32), ("items", List(&Sub(&KEY_TO_PATH))), ("optional", Bool), ("secretName", Text)],
};
/// Schema `SecurityContext`.
pub static SECURITY_CONTEXT: Message = Message { name: "SecurityContext", fields: &[("runAsUser", Int32)] };
/// Schema `Status`.
pub static STATUS: Message = Message {
    name: "Status",
    fields: &[
        ("code", Int32),
        ("details", Sub(&STATUS_DETAILS)),
        ("message", Text),
        ("metadata", Sub(&LIST_META)),
        ("reason", Text),
        ("status", Text),
    ],
};
/// Schema `StatusCause`.
pub static STATUS_CAUSE: Message =
    Message { name: "StatusCause", fields: &[("field", Text), ("message", Text), ("reason", Text)] };
/// Schema `StatusDetails`.
pub static STATUS_DETAILS: Message = Message {
    name: "StatusDetails",
    fields: &[
        ("causes", List(&Sub(&STATUS_CAUSE))),
        ("group", Text),
        ("kind", Text),
        ("name", Text),
        ("retryAfterSeconds", Int32),
        ("uid", Text),
    ],
};
/// Schema `TCPSocketAction`.
pub static TCP_SOCKET_ACTION: Message = Message { name: "TCPSocketAction", fields: &[("host", Text), ("port", Int32)] };
/// Schema `TaskSpec`.
pub static TASK_SPEC: Message = Message {
    name: "TaskSpec",
    fields: &[
        ("containers", List(&Sub(&CONTAINER))),
        ("maxRetries", Int32),
        ("nodeSelector", TextMap),
        ("sandboxes", Sub(&SANDBOX_CONFIGURATION)),
        ("serviceAccountName", Text),
        ("timeoutSeconds", Int64),
        ("volumes", List(&Sub(&VOLUME))),
    ],
};
/// Schema `TaskTemplateSpec`.
pub static TASK_TEMPLATE_SPEC: Message = Message { name: "TaskTemplateSpec", fields: &[("spec", Sub(&TASK_SPEC))] };
/// Schema `Volume`.
pub static VOLUME: Message = Message {
    name: "Volume",
    fields: &[
        ("configMap", Sub(&CONFIG_MAP_VOLUME_SOURCE)),
        ("csi", Sub(&CSI_VOLUME_SOURCE)),
        ("emptyDir", Sub(&EMPTY_DIR_VOLUME_SOURCE)),
        ("filestore", Sub(&FILESTORE_VOLUME_SOURCE)),
        ("name", Text),
        ("nfs", Sub(&NFS_VOLUME_SOURCE)),
        ("secret", Sub(&SECRET_VOLUME_SOURCE)),
    ],
};
/// Schema `VolumeMount`.
pub static VOLUME_MOUNT: Message = Message {
    name: "VolumeMount",
    fields: &[("mountPath", Text), ("name", Text), ("readOnly", Bool), ("subPath", Text)],
};
