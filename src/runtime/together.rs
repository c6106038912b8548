//! Several things awaited at once, in one task.

use std::future::Future;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

/// Where one of them stands.
enum Standing<F: Future> {
    Runs(Pin<Box<F>>),
    Is(F::Output),
}

/// What all of them come to, in their order.
pub async fn all<F>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output>
where
    F: Future,
{
    let mut them: Vec<Standing<F>> =
        futures.into_iter().map(|future| Standing::Runs(Box::pin(future))).collect();
    poll_fn(|context| {
        let mut is_over = true;
        for one in &mut them {
            if let Standing::Runs(future) = one {
                match future.as_mut().poll(context) {
                    Poll::Ready(output) => *one = Standing::Is(output),
                    Poll::Pending => is_over = false,
                }
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    let outputs = them.into_iter().filter_map(|one| match one {
        Standing::Is(output) => Some(output),
        Standing::Runs(_) => None,
    });
    outputs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_goes_on_while_another_waits_and_all_come_in_order() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let mut tell = Some(tell);
        let mut told = Some(told);
        // The first waits for what only the second says.
        let futures = (0..2).map(|number| {
            let (tell, told) = match number {
                0 => (None, told.take()),
                _ => (tell.take(), None),
            };
            async move {
                if let Some(told) = told {
                    return told.await.expect("it is said");
                }
                tell.expect("it is the second").send(7).expect("the first waits");
                number
            }
        });
        assert_eq!(all(futures).await, [7, 1]);
        assert!(all(Vec::<std::future::Ready<u8>>::new()).await.is_empty());
    }
}
