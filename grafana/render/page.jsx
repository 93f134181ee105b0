// Draws panels with Grafana's own components. What it draws stands in window.PAGE: the panels of a dashboard, each with
// the answers to its questions as `series`.
import 'uplot/dist/uPlot.min.css';

import {
  EventBusSrv,
  FieldColorModeId,
  FieldType,
  ThresholdsMode,
  VizOrientation,
  createDataFrame,
  createTheme,
  dateTime,
  getDisplayProcessor,
  renderMarkdown,
} from '@grafana/data';
import {
  BarGauge,
  BarGaugeDisplayMode,
  BigValue,
  BigValueColorMode,
  BigValueGraphMode,
  GlobalStyles,
  PanelChrome,
  PanelContextProvider,
  TimeSeries,
} from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';

const { page, start, end, panels } = window.PAGE;
const theme = createTheme({ colors: { mode: page.mode } });
const timeRange = { from: dateTime(start), to: dateTime(end), raw: { from: dateTime(start), to: dateTime(end) } };
const CELL = { width: page.width / 24, height: 38 };

function frameOf(panel, one, index) {
  const defaults = panel.fieldConfig.defaults;
  const override = panel.fieldConfig.overrides.find((rule) => rule.matcher.options === one.name);
  const colour = override?.properties.find((property) => property.id === 'color')?.value;
  const config = {
    ...defaults,
    displayName: one.name,
    thresholds: defaults.thresholds ?? { mode: ThresholdsMode.Absolute, steps: [{ value: -Infinity, color: 'green' }] },
    color: colour ?? (panel.type === 'timeseries' ? { mode: FieldColorModeId.PaletteClassic } : defaults.color ?? { mode: FieldColorModeId.Thresholds }),
    custom: { ...defaults.custom },
  };
  config.thresholds = {
    ...config.thresholds,
    steps: config.thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })),
  };
  const frame = createDataFrame({
    refId: one.name,
    fields: [
      { name: 'Time', type: FieldType.time, values: one.times, config: {} },
      { name: one.name, type: FieldType.number, values: one.values, config, labels: {} },
    ],
  });
  frame.fields[1].state = { seriesIndex: index, displayName: one.name };
  for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme });
  return frame;
}

function Graph({ panel, frames, width, height }) {
  return (
    <TimeSeries frames={frames} width={width} height={height} timeRange={timeRange} timeZone="utc"
      legend={{ ...panel.options.legend, showLegend: true }} options={panel.options} />
  );
}

function Numeral({ frames, width, height }) {
  const [, field] = frames[0].fields;
  const values = field.values.filter((value) => value !== null);
  const display = field.display(values.at(-1));
  const [min, max] = [Math.min(...values), Math.max(...values)];
  field.state.range = { min, max, delta: max - min };
  const sparkline = { y: field, x: frames[0].fields[0] };
  return (
    <BigValue value={{ ...display, title: '' }} sparkline={sparkline} width={width} height={height} theme={theme}
      colorMode={BigValueColorMode.Value} graphMode={BigValueGraphMode.Area} />
  );
}

function Bars({ frames, width, height }) {
  const last = (frame) => frame.fields[1].values.filter((value) => value !== null).at(-1);
  const most = Math.max(...frames.map(last));
  const each = Math.min(34, height / frames.length - 4);
  return frames.sort((a, b) => last(b) - last(a)).map((frame) => {
    const field = frame.fields[1];
    field.config.min = 0;
    field.config.max = most;
    const display = getDisplayProcessor({ field, theme });
    return (
      <div key={field.name} style={{ marginBottom: 4 }}>
        <BarGauge value={{ ...display(last(frame)), title: field.name }} field={field.config} display={display}
          width={width} height={each} theme={theme} orientation={VizOrientation.Horizontal}
          displayMode={BarGaugeDisplayMode.Gradient} valueDisplayMode="color" itemSpacing={4} />
      </div>
    );
  });
}

function Words({ panel }) {
  return <div className="markdown-html" dangerouslySetInnerHTML={{ __html: renderMarkdown(panel.options.content) }} />;
}

const KINDS = { timeseries: Graph, stat: Numeral, bargauge: Bars, text: Words };

function Panel({ panel }) {
  const { x, y, w, h } = panel.gridPos;
  const place = { position: 'absolute', left: x * CELL.width + 4, top: y * CELL.height + 4 };
  if (panel.type === 'row') {
    return <div style={{ ...place, top: place.top + 8, font: theme.typography.h5.font, fontSize: 17, color: theme.colors.text.primary }}>{panel.title}</div>;
  }
  const frames = panel.series.map((one, index) => frameOf(panel, one, index));
  const Kind = KINDS[panel.type];
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={w * CELL.width - 8} height={h * CELL.height - 8}>
        {(width, height) => (panel.type === 'text' || frames.length
          ? <Kind panel={panel} frames={frames} width={width} height={height} />
          : <div style={{ color: theme.colors.text.secondary }}>No data</div>)}
      </PanelChrome>
    </div>
  );
}

const context = {
  eventsScope: 'global',
  eventBus: new EventBusSrv(),
  canAddAnnotations: () => false,
  canEditAnnotations: () => false,
  canDeleteAnnotations: () => false,
};
const bottom = Math.max(...panels.map(({ gridPos }) => gridPos.y + gridPos.h));
document.body.style.background = theme.colors.background.canvas;
createRoot(document.getElementById('page')).render(
  <PanelContextProvider value={context}>
    <GlobalStyles hackNoBackdropBlur />
    <div style={{ position: 'relative', width: page.width, height: bottom * CELL.height + 8 }}>
      {panels.map((panel) => <Panel key={panel.id} panel={panel} />)}
    </div>
  </PanelContextProvider>
);
