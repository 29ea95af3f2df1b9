//! What is urgent goes first, at the next boundary between two instances, whatever waits.

use super::*;

const WAITING: usize = 5_000;

/// An archive that has the first of 5,000 routine instances, one on each association, and has not answered yet.
struct Crowd {
    station: Station,
    archive: Archive,
    /// One for each that is to be answered.
    answers: Vec<Arc<Notify>>,
}

impl Crowd {
    /// The instances from `study` of the number on belong to a study of their own.
    async fn new(study: usize) -> Self {
        Self::over(study, 1, []).await
    }

    /// The same over so many associations; after the first instances the archive does this with the next ones.
    async fn over(study: usize, associations: usize, acts: impl IntoIterator<Item = Act>) -> Self {
        let answers: Vec<_> = (0..associations).map(|_| Arc::new(Notify::new())).collect();
        let acts = answers.iter().map(|answer| Act::AnswerWhen(Arc::clone(answer))).chain(acts).collect();
        let at_a_time = if associations > 1 { associations } else { 0 };
        let archive = Archive::with(Script { acts, at_a_time, ..Script::default() }, &[]).await;
        let station = Station::new();
        for number in 0..WAITING {
            let belongs = if number < study { "1.2" } else { "1.2.5" };
            station.keep_small(&format!("1.2.3.{number}"), belongs, Priority::Routine).await;
        }
        let mut crowd = Self { station, archive, answers };
        let route = crowd.archive.route();
        crowd.station.deliver_with("central", route, |settings| settings.associations = associations);
        crowd.queued(WAITING).await;
        while crowd.archive.arrived().len() < associations {
            tokio::task::yield_now().await;
        }
        crowd
    }

    /// Waits until so many are queued.
    async fn queued(&self, count: usize) {
        let changed = Arc::new(Notify::new());
        let listener = Arc::clone(&changed);
        self.station.spool.on_queued(move |_| listener.notify_one());
        while self.station.spool.status().unwrap().destinations[0].queued.instances != count as u64 {
            changed.notified().await;
        }
    }

    /// Which have arrived when so many more have, after the answers that are waited for.
    async fn arrive(&self, count: usize) -> Vec<String> {
        self.answers.iter().for_each(|answer| answer.notify_one());
        while self.archive.arrived().len() < self.answers.len() + count {
            tokio::task::yield_now().await;
        }
        let arrived = self.archive.arrived();
        arrived.iter().skip(self.answers.len()).take(count).map(|(uid, ..)| uid.to_string()).collect()
    }

    fn end(self) {
        self.station.workers.iter().for_each(JoinHandle::abort);
    }
}

impl Station {
    async fn keep_small(&self, instance: &str, study: &str, priority: Priority) {
        self.keep_as(instance.as_bytes(), uid(instance), (study, priority), EXPLICIT, &["central"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_urgent_study_behind_5_000_instances_is_complete_before_another_one_starts() {
    let crowd = Crowd::new(WAITING).await;
    let urgent: Vec<String> = (0..50).map(|number| format!("1.2.4.{number}")).collect();
    for instance in &urgent {
        crowd.station.keep_small(instance, "1.2.9", Priority::Stat).await;
    }
    crowd.queued(WAITING + urgent.len()).await;
    let arrived = crowd.arrive(urgent.len() + 1).await;
    assert_eq!(arrived.get(..urgent.len()).unwrap(), urgent);
    assert_eq!(arrived.last().unwrap(), "1.2.3.1", "then the others go on");
    crowd.end();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_study_that_is_expedited_overtakes_all_that_came_before_it() {
    let crowd = Crowd::new(WAITING - 50).await;
    let study = uid("1.2.5");
    assert_eq!(tokio::task::block_in_place(|| crowd.station.spool.expedite(&study, "somebody")).unwrap(), 50);
    let arrived = crowd.arrive(51).await;
    let expected: Vec<String> = (WAITING - 50..WAITING).map(|number| format!("1.2.3.{number}")).collect();
    assert_eq!(arrived.get(..50).unwrap(), expected);
    assert_eq!(arrived.last().unwrap(), "1.2.3.1");
    crowd.end();
}

/// The last of them is answered late, while other associations are free.
#[tokio::test(flavor = "multi_thread")]
async fn over_several_associations_an_urgent_study_is_answered_before_another_instance_starts() {
    const URGENT: usize = 50;
    const WIDE: usize = 4;
    let late = Arc::new(Notify::new());
    let acts = vec![Act::Answer(0x0000); URGENT - 1].into_iter().chain([Act::AnswerWhen(Arc::clone(&late))]);
    let crowd = Crowd::over(WAITING, WIDE, acts).await;
    for number in 0..URGENT {
        crowd.station.keep_small(&format!("1.2.4.{number}"), "1.2.9", Priority::Stat).await;
    }
    crowd.queued(WAITING + URGENT).await;
    crowd.arrive(URGENT).await;
    while crowd.archive.script.lock().unwrap().answered < WIDE + URGENT - 1 {
        tokio::task::yield_now().await;
    }
    late.notify_one();
    crowd.arrive(URGENT + 20).await;
    let script = crowd.archive.script.lock().unwrap();
    let (urgent, others) = script.starts.get(WIDE..WIDE + URGENT + 19).unwrap().split_at(URGENT);
    assert!(urgent.iter().all(|(uid, _)| uid.as_str().starts_with("1.2.4.")), "{urgent:?}");
    assert!(others.iter().all(|(_, answered)| *answered >= WIDE + URGENT), "{others:?}");
    assert!(script.most_open > 1, "several carried them");
    drop(script);
    crowd.end();
}
