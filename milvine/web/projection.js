// The two directions in which vectors differ most (principal components), by power iteration.

const ROUNDS = 40;

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
  return sum;
}

function normalized(vector) {
  const length = Math.sqrt(dot(vector, vector)) || 1;
  return vector.map((value) => value / length);
}

/** The direction of the largest variance of centred `rows`. */
function direction(rows, dim) {
  let found = normalized(Float64Array.from({ length: dim }, (_, i) => Math.sin(i + 1)));
  for (let round = 0; round < ROUNDS; round += 1) {
    const next = new Float64Array(dim);
    for (const row of rows) {
      const along = dot(row, found);
      for (let i = 0; i < dim; i += 1) next[i] += along * row[i];
    }
    found = normalized(next);
  }
  return found;
}

/** Lists of numbers of one length -> [x, y] of each, and the share of the variance that the two show. */
export function project(vectors) {
  const dim = vectors[0].length;
  const mean = new Float64Array(dim);
  for (const vector of vectors) for (let i = 0; i < dim; i += 1) mean[i] += vector[i] / vectors.length;
  const rows = vectors.map((vector) => Float64Array.from(vector, (value, i) => value - mean[i]));
  const total = rows.reduce((sum, row) => sum + dot(row, row), 0) || 1;
  const points = rows.map(() => [0, 0]);
  for (const axis of [0, 1]) {
    const along = direction(rows, dim);
    rows.forEach((row, place) => {
      const value = dot(row, along);
      points[place][axis] = value;
      for (let i = 0; i < dim; i += 1) row[i] -= value * along[i];
    });
  }
  const shown = points.reduce((sum, [x, y]) => sum + x * x + y * y, 0);
  return { points, share: shown / total };
}
