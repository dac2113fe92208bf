//! What a flow run goes through.
