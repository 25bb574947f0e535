//! Two processes: the one that stands by answers with the holder's decisions.

use podswell::runtime::role::{Peer, Role};
use podswell::servers::keda::wire::IsActiveResponse;
use podswell::servers::keda::{DECISION, FORWARDED};
use tonic::Code;

use crate::calls::{active, first, replicas, spec, until};
use crate::world::{INGRESS, World, web};

fn standby(peer: Option<Peer>) -> Role {
    Role { is_ours: false, leads: false, epoch: 3, peer }
}

fn holds(epoch: i32) -> Role {
    Role { is_ours: true, leads: true, epoch, ..Role::default() }
}

#[tokio::test]
async fn an_answer_says_which_decision_it_comes_from() {
    let (holder, other) = (World::start().await, World::start().await);
    for world in [&holder, &other] {
        world.deploy("web", 0, &[]).await;
    }
    holder.role.set(holds(3));
    other.role.set(standby(Some(holder.peer.clone())));
    let _load = holder.load("web", INGRESS, 47.0);
    let (mut asked, mut forwarded) = (holder.client(), other.client());
    until("active", async || active(&mut forwarded, &web()).await, |is| *is == Ok(true)).await;
    for (client, expected) in [(&mut asked, None), (&mut forwarded, Some("true"))] {
        let ask = async || client.is_active(web()).await;
        let answer = first("an answer", ask, Result::is_ok).await.unwrap();
        let read = |key| answer.metadata().get(key).map(|value| value.to_str().unwrap());
        assert_eq!(read(FORWARDED), expected);
        let stamp = read(DECISION).unwrap();
        let values: Vec<i64> =
            stamp.split(' ').map(|pair| pair.split_once('=').unwrap().1.parse().unwrap()).collect();
        let [epoch, sequence, age_ms] = values[..] else { panic!("{stamp}") };
        assert!(epoch == 3 && sequence > 0 && (0..60_000).contains(&age_ms), "{stamp}");
    }
    // Who was forwarded is known here, too, in case that this process has to take over.
    let _own = other.load("web", INGRESS, 47.0);
    other.role.set(holds(4));
    until("warm", async || active(&mut forwarded, &web()).await, |is| *is == Ok(true)).await;
    // A holder of the past is none.
    other.role.set(Role { epoch: 4, ..standby(Some(holder.peer.clone())) });
    assert_eq!(active(&mut forwarded, &web()).await, Err(Code::Unavailable));
}

#[tokio::test]
async fn who_stands_by_answers_with_the_holders_decisions() {
    let (holder, other) = (World::start().await, World::start().await);
    holder.role.set(holds(3));
    for world in [&holder, &other] {
        world.deploy("web", 0, &[]).await;
    }
    other.role.set(standby(Some(holder.peer.clone())));
    let mut client = other.client();
    until("a spec", async || spec(&mut client, &web()).await, Result::is_ok).await;
    let mut stream = client.stream_is_active(web()).await.unwrap().into_inner();
    // Only the holder sees the load.
    let _load = holder.load("web", INGRESS, 47.0);
    until("5", async || replicas(&mut client, &web()).await, |n| *n == Ok(5)).await;
    until("active", async || active(&mut client, &web()).await, |is| *is == Ok(true)).await;
    let pushed = stream.message().await.unwrap();
    assert_eq!(pushed, Some(IsActiveResponse { result: true }));

    // A holder that is not one any more, a wrong token, nobody at all.
    holder.role.set(standby(None));
    assert_eq!(replicas(&mut client, &web()).await, Err(Code::Unavailable));
    let stranger = Peer { token: "guess".into(), ..holder.peer.clone() };
    holder.role.set(holds(3));
    other.role.set(standby(Some(stranger)));
    assert_eq!(replicas(&mut client, &web()).await, Err(Code::Unavailable));
    let nowhere = Peer { address: "127.0.0.1:1".into(), token: "s3cret".into() };
    other.role.set(standby(Some(nowhere)));
    assert_eq!(replicas(&mut client, &web()).await, Err(Code::Unavailable));

    // The stream lives on over all that, and is fed by who took over.
    let _own = other.load("web", INGRESS, 20.0);
    other.role.set(Role { is_ours: true, leads: true, ..Role::default() });
    until("2", async || replicas(&mut client, &web()).await, |n| *n == Ok(2)).await;
    assert_eq!(stream.message().await.unwrap(), Some(IsActiveResponse { result: true }));
}
