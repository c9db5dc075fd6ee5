//! A channel that keeps what it was told.

use super::{Budget, Verdict, lock};
use crate::notification::Notification;
use crate::ports::notifier::{Notifier, NotifierError};
use async_trait::async_trait;
use std::sync::{Arc, Mutex};

/// A channel that keeps what it was told.
#[derive(Debug)]
pub struct FakeNotifier {
    budget: Arc<Budget>,
    told: Mutex<Vec<Notification>>,
    answer: Mutex<Result<(), NotifierError>>,
}

impl FakeNotifier {
    pub(super) fn new(budget: Arc<Budget>) -> FakeNotifier {
        FakeNotifier { budget, told: Mutex::default(), answer: Mutex::new(Ok(())) }
    }

    /// What it was told, in the order of delivery, repeats included.
    pub fn told(&self) -> Vec<Notification> {
        lock(&self.told).clone()
    }

    /// The names of what it was told, in the order of delivery.
    pub fn names(&self) -> Vec<&'static str> {
        self.told().iter().map(|notification| notification.happened.name()).collect()
    }

    /// From now on every delivery is answered so.
    pub fn answer(&self, answer: Result<(), NotifierError>) {
        *lock(&self.answer) = answer;
    }
}

#[async_trait]
impl Notifier for FakeNotifier {
    fn channel(&self) -> &str {
        "fake"
    }

    async fn send(&self, notification: &Notification) -> Result<(), NotifierError> {
        let lost = || NotifierError::Unavailable { reason: "made to fail".into(), retry_after: None };
        let verdict = self.budget.spend();
        if verdict == Verdict::Fail {
            return Err(lost());
        }
        lock(&self.answer).clone()?;
        lock(&self.told).push(notification.clone());
        if verdict == Verdict::LoseTheAnswer { Err(lost()) } else { Ok(()) }
    }
}
