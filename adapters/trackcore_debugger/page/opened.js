// The record that is open beside the list: it is named in the address, after the #.
import * as api from "./api.js";
import { deliverySection, explanation, isUnderWay } from "./detail.js";
import { byId, count, el } from "./dom.js";

const AGAIN = 2_000; // while a delivery is under way

export class Opened {
  /** `onShow(key)` when a record is open, `onClose()` when it was closed. */
  constructor({ onShow, onClose }) {
    this.onShow = onShow;
    this.onClose = onClose;
    this.keys = {};
    this.view = byId("detail");
    addEventListener("hashchange", () => this.show());
  }

  get isOpen() {
    return !this.view.hidden;
  }

  go(hash) {
    if (location.hash === `#${hash}`) this.show();
    else location.hash = hash;
  }

  async show() {
    const asked = location.hash;
    const [part, seq] = asked.slice(1).split("/");
    const view = this.view;
    clearTimeout(this.timer);
    if (!/^\d+$/.test(seq ?? "")) {
      view.hidden = true;
      document.body.classList.remove("has-detail");
      return;
    }
    const close = () => this.close();
    let shown;
    let record = null;
    try {
      record = await api.detail(part, seq);
      shown = explanation(record, {
        keys: this.keys,
        onRepair: () => repair(part, seq),
        onRetry: (destination, button) => this.retry(seq, destination, button),
        onClose: close,
        onGo: (hash) => this.go(hash),
      });
    } catch (error) {
      shown = [el("p", { role: "alert" }, `${error.message} `), el("button", { type: "button", click: close }, "Close")];
    }
    if (location.hash !== asked) return; // meanwhile another was opened, or this one was closed
    view.replaceChildren(...shown);
    view.hidden = false;
    view.scrollTop = 0;
    document.body.classList.add("has-detail");
    this.onShow(`${part}/${seq}`);
    view.querySelector("h2")?.focus({ preventScroll: true });
    if (record) this.follow(record, asked);
  }

  close() {
    history.pushState(null, "", location.pathname + location.search);
    this.show();
    this.onClose();
  }

  /** Ask again for a delivery that is under way. */
  follow(record, asked) {
    if (!isUnderWay(record)) return;
    this.timer = setTimeout(async () => {
      if (location.hash !== asked) return;
      const found = document.hidden ? record : await api.detail(record.part, record.seq).catch(() => record);
      if (location.hash !== asked) return;
      this.update(found);
      this.follow(found, asked);
    }, AGAIN);
  }

  update(record) {
    const shown = deliverySection(record, (destination, button) => this.retry(record.seq, destination, button));
    if (shown) byId("deliveries")?.replaceWith(shown);
  }

  async retry(seq, destination, button) {
    button.disabled = true;
    const asked = location.hash;
    try {
      await api.retry(seq, destination);
      const record = await api.detail("messages", seq);
      if (location.hash !== asked) return;
      this.update(record);
      clearTimeout(this.timer);
      this.follow(record, asked);
    } catch (error) {
      button.replaceWith(el("span", { role: "alert" }, error.message));
    }
  }
}

async function repair(part, seq) {
  try {
    const result = await api.repair(part, seq);
    const counts = `${count(result.stored)} stored, ${count(result.duplicates)} stored before, ${count(result.rejected)} rejected`;
    const why = `${result.code}: ${result.detail}.`;
    if (result.outcome === "refused") return `Rejected again: ${why}`;
    return result.outcome === "repaired" ? `Repaired: ${counts}.` : `Partly repaired: ${counts}; first rejection: ${why}`;
  } catch (error) {
    return error.message;
  }
}
