// The standard normal numbers that PyTorch draws on a processor for a seed of `aigc`: the same, but for rounding.

/** 64 well-mixed bits of a seed: one round of SplitMix64. */
function mixed(seed) {
  const wrap = (value) => BigInt.asUintN(64, value);
  let state = wrap(BigInt(seed) + 0x9e3779b97f4a7c15n);
  state = wrap((state ^ (state >> 30n)) * 0xbf58476d1ce4e5b9n);
  state = wrap((state ^ (state >> 27n)) * 0x94d049bb133111ebn);
  return state ^ (state >> 31n);
}

/** A function that gives the numbers of the Mersenne twister MT19937, 32 bits each. */
function twister(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let place = 1; place < 624; place += 1) {
    const before = state[place - 1] ^ (state[place - 1] >>> 30);
    state[place] = Math.imul(before, 1812433253) + place;
  }
  let next = 624;
  const twist = () => {
    for (let place = 0; place < 624; place += 1) {
      const joined = (state[place] & 0x80000000) | (state[(place + 1) % 624] & 0x7fffffff);
      state[place] = state[(place + 397) % 624] ^ (joined >>> 1) ^ (joined & 1 ? 0x9908b0df : 0);
    }
    next = 0;
  };
  return () => {
    if (next === 624) twist();
    let value = state[next];
    next += 1;
    value ^= value >>> 11;
    value ^= (value << 7) & 0x9d2c5680;
    value ^= (value << 15) & 0xefc60000;
    return (value ^ (value >>> 18)) >>> 0;
  };
}

/** Standard normal numbers of a seed, by the method of Box and Muller. */
export function normal(seed, count) {
  const draw = twister(Number((mixed(seed) >> 1n) & 0xffffffffn));
  return count < 16 ? few(draw, count) : many(draw, count);
}

/** 16 and more: of 24 bits, in blocks of 16; the last block is drawn again if it is not whole. */
function many(draw, count) {
  const values = Float32Array.from({ length: count }, () => (draw() & 0xffffff) / 2 ** 24);
  const block = (start) => {
    for (let place = start; place < start + 8; place += 1) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[place])), angle = 2 * Math.PI * values[place + 8];
      values[place] = radius * Math.cos(angle);
      values[place + 8] = radius * Math.sin(angle);
    }
  };
  for (let start = 0; start + 16 <= count; start += 16) block(start);
  if (count % 16) {
    for (let place = count - 16; place < count; place += 1) values[place] = (draw() & 0xffffff) / 2 ** 24;
    block(count - 16);
  }
  return values;
}

/** Up to 15: of 53 bits, two at a time. */
function few(draw, count) {
  const uniform = () => ((draw() & 0x1fffff) * 2 ** 32 + draw()) / 2 ** 53;
  const values = new Float32Array(count);
  for (let place = 0; place < count; place += 2) {
    const angle = 2 * Math.PI * uniform(), radius = Math.sqrt(-2 * Math.log1p(-uniform()));
    values[place] = radius * Math.cos(angle);
    if (place + 1 < count) values[place + 1] = radius * Math.sin(angle);
  }
  return values;
}
