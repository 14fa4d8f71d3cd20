// Features of patches: which of them resemble one. No page is needed.

/** Rows of stored integers (their scale may differ from row to row) as float unit vectors; a row of zeros stays zero. */
export function unitRows({ values, shape: [count, dim] }) {
  const units = new Float32Array(count * dim);
  for (let i = 0; i < count; i++) {
    let square = 0;
    for (let d = i * dim; d < (i + 1) * dim; d++) square += values[d] * values[d];
    const inverse = square > 0 ? 1 / Math.sqrt(square) : 0;
    for (let d = i * dim; d < (i + 1) * dim; d++) units[d] = values[d] * inverse;
  }
  return units;
}

export function cosines(units, wanted) {
  const dim = wanted.length;
  const out = new Float32Array(units.length / dim);
  for (let i = 0, start = 0; i < out.length; i++, start += dim) {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += units[start + d] * wanted[d];
    out[i] = sum;
  }
  return out;
}

export function inverseNorms({ values, shape: [count, dim] }) {
  const out = new Float32Array(count); // a row of zeros keeps 0: it resembles nothing
  for (let i = 0; i < count; i++) {
    let square = 0;
    for (let d = i * dim; d < (i + 1) * dim; d++) square += values[d] * values[d];
    if (square > 0) out[i] = 1 / Math.sqrt(square);
  }
  return out;
}

export function unitRow({ features, inverse, dim }, at) {
  return Float32Array.from(features.subarray(at * dim, (at + 1) * dim), (value) => value * inverse[at]);
}

export function cosinesWith({ features, inverse, dim }, wanted) {
  const out = new Float32Array(inverse.length);
  for (let i = 0, start = 0; i < out.length; i++, start += dim) {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += features[start + d] * wanted[d];
    out[i] = sum * inverse[i];
  }
  return out;
}
