//! SHA-256 (FIPS 180-4), so that the recipe of `docs/ledger.md` is not checked with the library that the ledger uses.

pub(super) fn sha256(message: &[u8]) -> String {
    let primes: Vec<u64> = (2..312).filter(|n| (2..*n).all(|divisor| n % divisor != 0)).collect();
    let constants: Vec<u32> = primes.iter().take(64).map(|prime| fraction_of_root(*prime, 3)).collect();
    let mut state: Vec<u32> = primes.iter().take(8).map(|prime| fraction_of_root(*prime, 2)).collect();
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize(padded.len().next_multiple_of(64) + if padded.len() % 64 > 56 { 64 } else { 0 } - 8, 0);
    padded.extend_from_slice(&(message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut w: Vec<u32> = block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for i in 16..64 {
            let (a, b) = (w[i - 15], w[i - 2]);
            let small0 = a.rotate_right(7) ^ a.rotate_right(18) ^ (a >> 3);
            let small1 = b.rotate_right(17) ^ b.rotate_right(19) ^ (b >> 10);
            w.push(w[i - 16].wrapping_add(small0).wrapping_add(w[i - 7]).wrapping_add(small1));
        }
        let mut v = state.clone();
        for i in 0..64 {
            let big1 = v[4].rotate_right(6) ^ v[4].rotate_right(11) ^ v[4].rotate_right(25);
            let choice = (v[4] & v[5]) ^ (!v[4] & v[6]);
            let t1 = [big1, choice, constants[i], w[i]].iter().fold(v[7], |sum, term| sum.wrapping_add(*term));
            let big0 = v[0].rotate_right(2) ^ v[0].rotate_right(13) ^ v[0].rotate_right(22);
            let majority = (v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]);
            v.rotate_right(1);
            v[4] = v[4].wrapping_add(t1);
            v[0] = t1.wrapping_add(big0).wrapping_add(majority);
        }
        state.iter_mut().zip(v).for_each(|(to, from)| *to = to.wrapping_add(from));
    }
    state.iter().map(|word| format!("{word:08x}")).collect()
}

/// The first 32 bits of the fractional part of the square or cube root of a small number.
fn fraction_of_root(number: u64, power: u32) -> u32 {
    let scaled = u128::from(number) << (32 * power);
    let (mut low, mut high) = (0_u128, 1 << 40);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if middle.pow(power) <= scaled { low = middle } else { high = middle }
    }
    u32::try_from(low & 0xffff_ffff).unwrap()
}
