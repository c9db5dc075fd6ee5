//! What every typed trigger is: a binding type and a way to read it from the envelope.

use crate::envelope::InvocationRequest;

/// An event that a function can take: implemented by the event types of this crate, and by yours if a binding
/// has none here.
pub trait Trigger: Sized + Send + 'static {
    /// The `type` of the trigger binding in `function.json`, such as `serviceBusTrigger`.
    const BINDING: &'static str;

    /// Reads the event from the body of an invocation.
    ///
    /// # Errors
    /// What the body holds is not such an event; the invocation fails, as it would on every further attempt.
    fn decode(request: InvocationRequest) -> Result<Self, DecodeError>;
}

/// A [`Trigger`] that is a message of a queue: what [`crate::Functions::queue`] accepts.
pub trait QueueMessage: Trigger {}

/// Why the body of an invocation is not the event that the function was registered for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// `Data` is empty.
    #[error(
        "the invocation carries no input: function.json must declare the trigger this function is registered for"
    )]
    NoInput,
    /// A message trigger whose value is not a string.
    #[error(
        "the trigger value is not a message: function.json must declare the trigger this function is registered for"
    )]
    NotAMessage,
    /// `cardinality: "many"`.
    #[error(
        "the trigger delivers batches: set `cardinality` to \"one\" in function.json, or register with `Functions::other`"
    )]
    Batch,
    /// The value does not have the members the event has. The source may quote the value: do not log it.
    #[error("the trigger value is not of the shape of the {event}")]
    Shape {
        /// Which event was expected.
        event: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An HTTP body that should have been base64.
    #[error("the body of the HTTP request is not the base64 its content type calls for")]
    Body,
}
