//! Several futures at once, on the task that waits for them: dropping the wait drops the work.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

/// A future of any type.
pub(super) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Waits for the first of `running`, removes it, and returns its position at that time and its output. Never completes if
/// there is none.
pub(super) async fn first<T>(running: &mut Vec<Boxed<'_, T>>) -> (usize, T) {
    poll_fn(|context| {
        for at in 0..running.len() {
            if let Poll::Ready(output) = running[at].as_mut().poll(context) {
                drop(running.remove(at));
                return Poll::Ready((at, output));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for all of `running`. Returns their outputs in their order.
pub(super) async fn all<T>(running: Vec<Boxed<'_, T>>) -> Vec<T> {
    let mut outputs: Vec<Option<T>> = running.iter().map(|_| None).collect();
    let mut numbers: Vec<usize> = (0..running.len()).collect();
    let mut running = running;
    while !running.is_empty() {
        let (at, output) = first(&mut running).await;
        outputs[numbers.remove(at)] = Some(output);
    }
    outputs.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn outputs_come_in_the_order_of_the_futures() {
        let after = |millis: u64| -> Boxed<'_, u64> {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(millis)).await;
                millis
            })
        };
        assert_eq!(all(vec![after(3), after(1), after(2)]).await, [3, 1, 2]);
        let mut running = vec![after(50), after(1)];
        assert_eq!(first(&mut running).await, (1, 1));
        assert_eq!(running.len(), 1);
    }
}
