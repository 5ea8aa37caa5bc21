// Sign-in: by a typed token, or by the token after the # of a link, which is never sent in an address.
import { enter } from "./api.js";
import { byId } from "./dom.js";
import { applyTheme } from "./theme.js";

applyTheme();

async function open(token) {
  try {
    await enter(token);
    location.reload();
  } catch (error) {
    byId("trouble").textContent = error.message;
    byId("token").select();
  }
}

byId("enter").addEventListener("submit", (event) => {
  event.preventDefault();
  open(byId("token").value);
});

function openByLink() {
  const given = location.hash.slice(1);
  if (!given || given.includes("/")) return;
  history.replaceState(null, "", location.pathname + location.search);
  open(given);
}

addEventListener("hashchange", openByLink); // a link that is opened while this page is already open
openByLink();
