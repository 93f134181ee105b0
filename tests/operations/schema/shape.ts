// A dashboard as it stands in a JSON file: where Grafana's types name an enum, its value as a string.
import type { AnnotationQuery, Dashboard } from '@grafana/schema';

type AsJson<T> = T extends string ? `${T}` : T extends object ? { [K in keyof T]: AsJson<T[K]> } : T;

// What belongs to the data source and not to Grafana.
type OfPrometheus = { expr: string; titleFormat: string };

export type Shape = Omit<AsJson<Dashboard>, 'annotations'> & {
  annotations: { list: Array<AsJson<AnnotationQuery> & OfPrometheus> };
};
