// Texts in PNG files: each picture says that it was generated, and by what.

function checksum(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return ~sum >>> 0;
}

/** A PNG file with international texts by name, put after its header. */
export async function withTexts(blob, texts) {
  const before = 33; // bytes of the signature and the header
  const encode = (text) => new TextEncoder().encode(text);
  const parts = Object.entries(texts).map(([name, text]) => {
    const content = encode(`iTXt${name}\0\0\0\0\0${text}`), chunk = new Uint8Array(content.length + 8);
    const view = new DataView(chunk.buffer);
    view.setUint32(0, content.length - 4);
    chunk.set(content, 4);
    view.setUint32(content.length + 4, checksum(content));
    return chunk;
  });
  return new Blob([blob.slice(0, before), ...parts, blob.slice(before)], { type: "image/png" });
}
