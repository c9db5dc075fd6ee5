//! One read for all who ask at the same time, none of whom is given an answer that is older than the question.

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A read that is under way or is to begin.
pub(crate) type Turn<T> = Shared<BoxFuture<'static, T>>;

struct Turns<T: Clone> {
    /// Begun, perhaps before somebody asked who comes now.
    running: Option<Turn<T>>,
    /// Begins when that one has ended: whoever comes before then is given its answer.
    next: Option<Turn<T>>,
}

/// Where those of one process meet who want the same read.
pub(crate) struct SharedRead<T: Clone>(Arc<Mutex<Turns<T>>>);

impl<T: Clone> Clone for SharedRead<T> {
    fn clone(&self) -> Self {
        SharedRead(Arc::clone(&self.0))
    }
}

impl<T: Clone> Default for SharedRead<T> {
    fn default() -> Self {
        SharedRead(Arc::new(Mutex::new(Turns { running: None, next: None })))
    }
}

fn lock<T: Clone>(turns: &Mutex<Turns<T>>) -> MutexGuard<'_, Turns<T>> {
    // Each change is whole before anything can panic.
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone + Send + Sync + 'static> SharedRead<T> {
    /// The answer of a read that begins after this call: `read`, unless somebody else's like it is about to begin.
    pub(crate) fn turn(&self, read: impl Future<Output = T> + Send + 'static) -> Turn<T> {
        let mut turns = lock(&self.0);
        if let Some(next) = &turns.next {
            return next.clone();
        }
        let Some(running) = turns.running.take().filter(|running| running.peek().is_none()) else {
            let turn = read.boxed().shared();
            turns.running = Some(turn.clone());
            return turn;
        };
        turns.running = Some(running.clone());
        let all = Arc::downgrade(&self.0);
        let turn = async move {
            // Driven by those who wait for it here, should those who began it have gone.
            running.await;
            if let Some(all) = all.upgrade() {
                let mut turns = lock(&all);
                turns.running = turns.next.take();
            }
            read.await
        };
        let turn = turn.boxed().shared();
        turns.next = Some(turn.clone());
        turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::channel::oneshot;
    use futures::poll;
    use std::task::Poll;

    /// A read that is answered when the test says so; it tells when it begins.
    fn read() -> (oneshot::Receiver<()>, oneshot::Sender<u32>, impl Future<Output = u32> + Send + 'static) {
        let (begun, when_begun) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let read = async move {
            begun.send(()).ok();
            answered.await.unwrap_or_default()
        };
        (when_begun, answer, read)
    }

    #[tokio::test]
    async fn who_comes_during_a_read_shares_the_next_one_and_not_that() {
        let shared = SharedRead::default();
        let (_, first_answer, first) = read();
        let first = shared.turn(first);
        assert!(poll!(first.clone()).is_pending());
        let (mut second_begun, second_answer, second) = read();
        let second = shared.turn(second);
        let third = shared.turn(async { panic!("it shares the second") });
        assert!(poll!(third.clone()).is_pending() && second_begun.try_recv() == Ok(None));
        first_answer.send(1).unwrap();
        assert!(poll!(third.clone()).is_pending() && second_begun.try_recv() == Ok(Some(())));
        // The second has begun: what changed since, its answer need not tell.
        let (_, fourth_answer, fourth) = read();
        let fourth = shared.turn(fourth);
        second_answer.send(2).unwrap();
        assert_eq!((first.await, second.await, third.await), (1, 2, 2));
        fourth_answer.send(4).unwrap();
        assert_eq!(fourth.await, 4);
        assert_eq!(shared.turn(async { 5 }).await, 5, "nothing is kept");
    }

    #[tokio::test]
    async fn a_read_whose_asker_has_gone_keeps_nobody_waiting() {
        let shared = SharedRead::default();
        let (_, answer, first) = read();
        let mut first = shared.turn(first);
        assert!(poll!(&mut first).is_pending());
        drop(first);
        let second = shared.turn(async { 2 });
        let abandoned = shared.turn(async { panic!("it shares the second") });
        assert!(poll!(abandoned).is_pending());
        answer.send(1).unwrap();
        assert_eq!(poll!(second), Poll::Ready(2));
    }
}
