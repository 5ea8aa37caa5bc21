// The panel of the charts: it is drawn with new records, and folds to a strip, which this browser remembers.
import * as api from "./api.js";
import { band, bars, delays } from "./charts.js";
import { byId, remember, remembered } from "./dom.js";

const EVERY = 2_000;
const EVERY_PARTIAL = 250; // until everything is counted

export class ChartPanel {
  /** `onFilter(values)` when a bar is clicked; `isActive()` is whether anyone looks. */
  constructor({ onFilter, isActive }) {
    this.onFilter = onFilter;
    this.isActive = isActive;
    this.dueAt = 0;
    this.timer = 0;
    this.drawn = null;
    this.isFolded = (remembered("charts") ?? (matchMedia("(max-width: 700px)").matches ? "folded" : "")) === "folded";
    const range = byId("range");
    range.value = remembered("range") ?? range.value;
    if (!range.value) range.selectedIndex = 0;
    range.addEventListener("change", () => {
      remember("range", range.value);
      this.ask();
    });
    byId("charts-toggle").addEventListener("click", () => this.toggle());
    addEventListener("resize", () => this.draw());
    this.showFolded();
  }

  toggle() {
    this.isFolded = !this.isFolded;
    remember("charts", this.isFolded ? "folded" : "open");
    this.showFolded();
    this.draw();
  }

  showFolded() {
    byId("charts").classList.toggle("folded", this.isFolded);
    byId("charts-toggle").setAttribute("aria-expanded", !this.isFolded);
  }

  /** The seconds to ask for with the next request for new records, empty if nothing is due. */
  get due() {
    return this.isActive() && performance.now() >= this.dueAt ? byId("range").value : "";
  }

  async ask() {
    clearTimeout(this.timer);
    if (!this.isActive()) return;
    const seconds = byId("range").value;
    try {
      this.take(await api.charts(seconds), seconds);
    } catch {
      // The list shows the error; the charts stay as they were.
    }
  }

  take(found, seconds) {
    if (seconds !== byId("range").value) return;
    this.drawn = found;
    this.draw();
    this.dueAt = performance.now() + EVERY;
    clearTimeout(this.timer);
    if (found.isPartial) this.timer = setTimeout(() => this.ask(), EVERY_PARTIAL);
  }

  draw() {
    const found = this.drawn;
    if (!found) return;
    const shared = { since: found.since, bucketSeconds: found.bucketSeconds, isFolded: this.isFolded };
    const times = ({ since, until }) => (since ? { since, until } : {});
    bars(byId("chart-messages"), {
      ...shared, title: "Messages by source", unit: "per second", series: found.messages, scale: found.bucketSeconds, kind: "source",
      onPick: (picked) => this.onFilter({ ...(picked.name === null ? {} : { source: picked.name }), ...times(picked) }),
    });
    bars(byId("chart-rejected"), {
      ...shared, title: "Rejections by code", unit: `per ${span(found.bucketSeconds)}`, series: found.rejected, kind: "code",
      note: found.rejectedAreCut ? ", the newest only" : "",
      onPick: (picked) => this.onFilter({ ...(picked.name === null ? {} : { code: picked.name }), ...times(picked) }),
    });
    const total = Object.values(found.messages).flat().reduce((sum, value) => sum + (value ?? 0), 0);
    band(byId("chart-skew"), { ...shared, title: "Clock skew", unit: "of clients", values: found.clockSkew, total, onPick: (picked) => this.onFilter(times(picked)) });
    delays(byId("chart-delivery"), found.delivery, { isFolded: this.isFolded, onPick: this.onFilter });
  }
}

const span = (seconds) => (seconds < 120 ? `${seconds} s` : `${seconds / 60} min`);
