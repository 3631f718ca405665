//! Tokens that must be taken, and those that must not.
