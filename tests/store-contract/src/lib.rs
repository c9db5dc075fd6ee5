//! What every store adapter must do, as one test suite.
