//! What is counted of one direction of the link.

use std::time::Duration;

/// How long one sample of the rate is.
pub(crate) const SAMPLE: Duration = Duration::from_millis(100);

/// Packets, their bytes from the IP header on, and the bytes of TCP payload in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Amount {
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) payload: u64,
}

impl Amount {
    pub(crate) fn add(&mut self, bytes: usize, payload: u32) {
        self.packets += 1;
        self.bytes += bytes as u64;
        self.payload += u64::from(payload);
    }
}

/// What happened in one interval of length [`SAMPLE`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    /// Bytes that the sender gave to the link, dropped ones included.
    pub(crate) entered: u64,
    /// Bytes that the link carried, lost ones included.
    pub(crate) carried: u64,
    /// Payload of TCP that arrived for the first time.
    pub(crate) fresh: u64,
}

/// Everything of one direction, since the link was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// What the sender gave to the link.
    pub(crate) entered: Amount,
    /// What arrived.
    pub(crate) arrived: Amount,
    /// Payload of TCP that arrived for the first time.
    pub(crate) fresh: u64,
    /// What found the queue full.
    pub(crate) overflowed: Amount,
    /// What the dice took.
    pub(crate) lost: Amount,
    /// What met an outage.
    pub(crate) cut: Amount,
    /// What belonged to a connection that the NAT had forgotten.
    pub(crate) forgotten: Amount,
    /// TCP connections that were opened.
    pub(crate) opened: u64,
    /// How long packets waited in the queue, in microseconds, without their own time on the link.
    pub(crate) queueing: Histogram,
    /// From the making of the link on.
    pub(crate) samples: Vec<Sample>,
    /// When the first TCP segment entered while the link was there.
    pub(crate) first_segment: Option<Duration>,
    /// When payload of TCP arrived for the first time, and for the last.
    pub(crate) last_payload: Option<Duration>,
}

impl Counted {
    /// The sample of a time.
    pub(crate) fn sample(&mut self, time: Duration) -> &mut Sample {
        let index = index(time);
        if self.samples.len() <= index {
            self.samples.resize(index + 1, Sample::default());
        }
        &mut self.samples[index]
    }

    /// A sum over the whole samples between two times, and how long these are together.
    pub(crate) fn between(&self, from: Duration, to: Duration, what: fn(&Sample) -> u64) -> (u64, Duration) {
        let (first, last) = (index(from + SAMPLE - Duration::from_nanos(1)), index(to));
        let count = last.saturating_sub(first);
        let sum = self.samples.iter().skip(first).take(count).map(what).sum();
        (sum, SAMPLE * u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// The largest sum over `window` anywhere between two times, in bits per second.
    pub(crate) fn peak(&self, from: Duration, to: Duration, window: Duration, what: fn(&Sample) -> u64) -> f64 {
        let samples: Vec<u64> = self.samples.iter().take(index(to)).skip(index(from)).map(what).collect();
        let length = index(window).max(1);
        let most = samples.windows(length).map(|window| window.iter().sum::<u64>()).max().unwrap_or(0);
        float(most) * 8.0 / (SAMPLE.as_secs_f64() * float(length as u64))
    }
}

fn index(time: Duration) -> usize {
    usize::try_from(time.as_nanos() / SAMPLE.as_nanos()).unwrap_or(usize::MAX)
}

/// For people and ratios: what is lost is beyond the fifteenth digit.
#[expect(clippy::cast_precision_loss, reason = "see above")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// How often which value occurred, to 1.6 %.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    most: u64,
}

/// Buckets for each doubling.
const FINE: u64 = 64;

impl Histogram {
    pub(crate) fn add(&mut self, value: u64) {
        let bucket = bucket(value);
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
        self.most = self.most.max(value);
    }

    /// The value that this share of all values does not exceed; 0 if there is none.
    pub(crate) fn quantile(&self, share: f64) -> u64 {
        let wanted = share * float(self.total);
        let mut sum = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            sum += count;
            if *count > 0 && float(sum) >= wanted {
                return largest(bucket as u64).min(self.most);
            }
        }
        self.most
    }

    pub(crate) fn most(&self) -> u64 {
        self.most
    }
}

fn bucket(value: u64) -> usize {
    let doublings = u64::from((value / FINE).checked_ilog2().map_or(0, |log| log + 1));
    let within = if doublings == 0 { value } else { (value >> (doublings - 1)) - FINE };
    usize::try_from(doublings * FINE + within).unwrap_or(usize::MAX)
}

/// The largest value in a bucket.
fn largest(bucket: u64) -> u64 {
    let (doublings, within) = (bucket / FINE, bucket % FINE);
    if doublings == 0 { within } else { ((within + FINE + 1) << (doublings - 1)) - 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_fine_enough_and_in_order() {
        for value in (0..5_000).chain([1 << 20, (1 << 20) + 12_345, 60_000_000]) {
            let bound = largest(bucket(value) as u64);
            assert!(bound >= value && float(bound) <= float(value) * 1.016 + 0.5, "{value} is told as {bound}");
            assert!(bucket(value) <= bucket(value + 1));
        }
    }

    #[test]
    fn quantiles() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), 0);
        (1..=100).for_each(|value| histogram.add(value));
        assert_eq!(histogram.quantile(0.5), 50);
        assert_eq!(histogram.quantile(0.95), 95);
        assert_eq!(histogram.quantile(1.0), 100);
        assert_eq!(histogram.most(), 100);
    }

    #[test]
    fn rates_over_windows() {
        let mut counted = Counted::default();
        for tenth in 0..50 {
            counted.sample(SAMPLE * tenth).entered = if (20..30).contains(&tenth) { 2_000 } else { 1_000 };
        }
        let all = (Duration::ZERO, Duration::from_secs(5));
        assert_eq!(counted.between(all.0, all.1, |sample| sample.entered), (60_000, all.1));
        let second = counted.peak(all.0, all.1, Duration::from_secs(1), |sample| sample.entered);
        assert!((second - 160_000.0).abs() < 1e-6, "{second}");
        // Only whole samples count.
        let (bytes, time) =
            counted.between(Duration::from_millis(50), Duration::from_millis(350), |sample| sample.entered);
        assert_eq!((bytes, time), (2_000, Duration::from_millis(200)));
    }
}
