"""How the page looks: one theme on system fonts (nothing is fetched from elsewhere), light and dark."""

import gradio as gr

from explorer.web import stylesheet

TITLE = "vit-explorer"
TAGLINE = (
    "See what a Vision Transformer does to a damaged picture, and watch a student learn to see through the damage."
)

THEME = gr.themes.Base(
    primary_hue=gr.themes.colors.teal,
    secondary_hue=gr.themes.colors.teal,
    neutral_hue=gr.themes.colors.slate,
    spacing_size=gr.themes.sizes.spacing_sm,
    radius_size=gr.themes.sizes.radius_md,
    font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "sans-serif"],
    font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
).set(
    body_text_color_subdued="*neutral_600",
    body_text_color_subdued_dark="*neutral_400",
    block_info_text_color="*neutral_600",
    block_info_text_color_dark="*neutral_400",
    body_background_fill="*neutral_50",
    body_background_fill_dark="*neutral_950",
    block_background_fill="white",
    block_background_fill_dark="*neutral_900",
    block_border_width="1px",
    block_shadow="none",
    block_shadow_dark="none",
    block_label_text_size="*text_sm",
    button_primary_background_fill="*primary_700",
    button_primary_background_fill_dark="*primary_700",
    button_primary_background_fill_hover="*primary_800",
    button_primary_background_fill_hover_dark="*primary_800",
    link_text_color="*primary_700",
    link_text_color_hover="*primary_800",
    link_text_color_visited="*primary_700",
    link_text_color_dark="*primary_300",
    link_text_color_hover_dark="*primary_200",
    link_text_color_visited_dark="*primary_300",
)

CSS = """
.gradio-container { width: 100% !important; max-width: 2200px !important; margin: 0 auto !important;
                    overflow: clip !important; }
#header { align-items: center; flex-wrap: nowrap; justify-content: space-between; }
#header > :first-child { flex: 1 1 auto; min-width: 0 !important; }
#header h1 { font-size: 1.5rem; margin: 0; }
#header p { margin: 2px 0 0; color: var(--body-text-color-subdued); }
#theme-switch, #tour-button, #share { flex: 0 0 auto; width: auto; min-width: 60px !important; }
#theme-switch, #tour-button, #share button { min-height: 28px; padding: 4px 10px; border-radius: 6px; font-size: 12px;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color); }
#share { position: relative; overflow: visible; }
.share-answer { position: absolute; z-index: 55; right: 0; top: calc(100% + 6px); width: max-content;
                max-width: min(420px, calc(100vw - 32px)); padding: 8px 12px; border-radius: 8px;
                border: 1px solid var(--border-color-primary); background: var(--block-background-fill);
                color: var(--body-text-color); box-shadow: 0 4px 16px rgb(0 0 0 / 20%); }
.share-answer[hidden] { display: none; }
.share-answer input { width: 100%; margin-top: 6px; background: var(--input-background-fill); color: inherit; }
#tour { position: fixed; z-index: 60; right: 16px; bottom: 16px; width: min(360px, calc(100vw - 16px));
        padding: 14px 16px;
        border: 1px solid var(--color-accent); border-radius: 10px; background: var(--block-background-fill);
        color: var(--body-text-color); box-shadow: 0 8px 30px rgb(0 0 0 / 25%); }
#tour[hidden] { display: none; }
#tour h2 { margin: 0 0 6px; font-size: 1.1rem; outline: none; }
#tour p { margin: 0 0 10px; line-height: 1.45; }
#tour div { display: flex; gap: 8px; align-items: center; }
#tour .count { margin-right: auto; color: var(--body-text-color-subdued); font-size: 13px; }
#tour button { padding: 6px 12px; border-radius: 6px; border: 1px solid var(--border-color-primary); min-height: 32px; }
#tour button:disabled { opacity: 0.45; }
#tour .next { background: var(--button-primary-background-fill); color: var(--button-primary-text-color); }
[data-tour] { outline: 3px solid var(--color-accent) !important; outline-offset: -3px; border-radius: 6px; }
.notice { margin: 0; padding: 10px 14px; border-left: 4px solid #b54708; border-radius: 6px;
          background: #fff3e6; color: #5c2403; overflow-wrap: anywhere; }
.dark .notice { background: #3a2110; color: #ffd9b8; border-left-color: #f5a56b; }
#samples .grid-container { grid-template-columns: repeat(6, minmax(0, 1fr)) !important;
                           grid-auto-rows: auto; grid-template-rows: none !important; height: auto !important;
                           align-content: start; gap: 4px; padding: 4px; }
#samples, #samples .grid-wrap, #samples .gallery-container { height: auto !important; min-height: 0 !important; }
#samples .grid-wrap { max-height: none; overflow: visible; padding: 0; }
#samples .thumbnail-item { border-radius: 4px; min-width: 0; aspect-ratio: 1; height: auto; width: 100%; }
#samples .thumbnail-item img { aspect-ratio: 1; width: 100%; height: auto; }
#samples .caption-label { display: none; }
#notice { position: sticky; z-index: 40; top: 8px; }
#notice:not(:has(.notice)), #backbone-problem:not(:has(.notice)):not(:has(.pending)) { display: none; }
#severity label { padding: 4px 9px; min-width: 0; }
#severity .wrap { gap: 6px; }
.corruption-sheet { max-height: 420px; overflow-y: auto; display: grid; gap: 6px; padding: 2px 4px 4px 2px; }
.corruption-sheet span { font-size: 12px; color: var(--body-text-color-subdued); }
.corruption-sheet div div { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 3px; }
.corruption-sheet button { aspect-ratio: 1; width: 100%; border-radius: 3px; border: 0; padding: 0; cursor: pointer; }
.corruption-sheet button:hover { outline: 2px solid var(--color-accent); outline-offset: 1px; }
#seed-row { align-items: end; }
#beside .token { max-width: 100%; }
#beside .token > span { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
#reroll { flex: 0 0 auto; height: 40px; margin-bottom: 6px; }
body.dark { background: var(--body-background-fill); }
input[role="combobox"] { text-overflow: ellipsis; padding-right: 34px !important; }
#embedding-buttons button, #sweep-buttons button, #attribution-buttons button, #probe-buttons button,
#lab-buttons button, #sheet-form button, #sheet-maps {
  flex: 0 0 auto; min-width: 120px; }
#sheet-form, #sheet-chosen { align-items: end; }
#sheet-heading { margin-top: 12px; }
#strength-view { min-height: 90vh; }
.seen-said { margin: 0; font-size: 15px; }
.said > [data-testid="status-tracker"] { display: none; }
.seen-cards { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr));
              margin: 4px 0 12px; }
.seen-card { display: grid; gap: 8px; align-content: start; }
.seen-title.seen-title { margin: 0; font-weight: 600; }
.seen-title small { margin-left: 6px; padding: 0 7px; border: 1px solid; border-radius: 9px; font-size: 12px; }
.seen-card img { width: 100%; max-width: 240px; aspect-ratio: 1; border-radius: 6px; margin: 0; }
#seen table, #seen tbody, #seen tr, #seen th, #seen td { border: 0; background: none; }
.seen-card table { width: 100%; max-width: 420px; border-collapse: collapse; font-variant-numeric: tabular-nums; }
#seen th, #seen td { padding: 3px 0; text-align: left; font-weight: 400; line-height: 1.3; }
#seen th { width: 38%; overflow-wrap: anywhere; padding-right: 8px; }
#seen td:last-child { width: 56px; text-align: right; white-space: nowrap; }
.seen-card i { display: block; height: 12px; min-width: 1px; border-radius: 3px; background: var(--vx-muted); }
#seen .as-reference th, #seen .as-reference td { font-weight: 600; }
.seen-card .as-reference i { background: var(--vx-closer); }
#seen:has(.seen-card) ~ #probe-files button { flex: 0 0 auto; }
#seen:not(:has(.seen-card)) ~ #probe-files { display: none; }
#run-buttons { scroll-margin-top: 8px; }
#strength-status:not(:has(.progress)):not(:has(.quiet)) ~ #strength-view { display: none; }
#strength-status:has(.progress) ~ #strength-view .vx-empty { visibility: hidden; }
/* Beside the words of the fold above it, so that nothing moves when it goes. */
.block.example { position: absolute !important; right: 48px; width: max-content !important; height: 40px;
                 max-width: calc(100% - 220px); display: flex; align-items: center; text-align: right;
                 pointer-events: none; }
.block.example > [data-testid="status-tracker"] { display: none; }
.example .quiet { min-height: 0; font-size: 13px; line-height: 1.2; }
#way .wrap { gap: 4px; }
#way { padding: 6px; }
#way label { flex: 1 0 auto; min-width: 0; padding: 5px; font-size: 12px; justify-content: center; }
#way label.selected { background: var(--button-primary-background-fill); color: var(--button-primary-text-color); }
#way label:focus-within { outline: 2px solid var(--color-accent); outline-offset: 2px; }
#way label input { position: absolute; opacity: 0; }
#way label span { margin: 0; }
#find-nearest { flex: 0 0 auto; align-self: end; }
#nearest-found section { margin-top: 6px; }
#nearest-found h4 { margin: 0 0 4px; font-size: 13px; }
#nearest-found section > div { display: grid; grid-template-columns: repeat(5, minmax(0, 112px)); gap: 8px; }
#nearest-found figure { margin: 0; font-size: 11.5px; line-height: 1.25; overflow-wrap: anywhere; }
#nearest-found img { width: 100%; height: auto; border-radius: 4px; }
.quiet { margin: 0; color: var(--body-text-color-subdued); }
.progress { display: flex; gap: 12px; align-items: center; }
.progress progress { flex: 1; height: 10px; accent-color: var(--color-accent); }
/* One line says of what a result is; while something is computed, or went wrong, that is told in its place. */
.quiet, .line-status .progress { min-height: 44px; }
.old { border-left: 4px solid #b54708; padding-left: 10px; }
.line-status:not(:has(.progress)):not(:has(.notice)) { display: none; }
.line-status:has(.progress, .notice) + .line-mark { display: none; }
.line-status:has(.progress) ~ .made .vx-empty { visibility: hidden; }
.line-status:has(.progress:not(.live)) ~ .made { opacity: 0.6; }
.line-mark:has(.old) ~ .made { opacity: 0.6; }
.progress progress:not([value]) { appearance: none; border-radius: 5px; animation: waiting 1.2s linear infinite;
  background: linear-gradient(90deg, transparent, var(--color-accent), transparent) -60% 0 / 60% 100% no-repeat
    var(--border-color-primary); }
.progress progress:not([value])::-webkit-progress-bar { background: none; }
/* What is drawn anew stays as it was, below a bar, so that before and after can be compared. */
.pending { opacity: 1 !important; }
#working { display: none; }
:root:has(#working .pending) .html-container, .pending { &:has(.vx-mount) { position: relative; } }
:root:has(#working .pending) .html-container, .pending { &:has(.vx-mount)::before {
  content: ""; position: absolute; z-index: 2; inset: 0 0 auto; height: 3px;
  background: linear-gradient(90deg, transparent, var(--color-accent), transparent) -60% 0 / 60% 100% no-repeat;
  animation: waiting 1.2s linear 0.3s infinite; } }
@keyframes waiting { to { background-position: 160% 0; } }
@media (prefers-reduced-motion: reduce) {
  :root:has(#working .pending) .html-container, .pending { &:has(.vx-mount)::before {
    background-position: 50% 0; animation: none; } }
  .progress progress:not([value]) { background-position: 50% 0; animation: none; }
}
/* Above the tabs, or else these would cover the lists of its choices. */
#sidebar { position: sticky; z-index: 30; top: 8px; align-self: flex-start; max-height: calc(100vh - 16px);
           overflow: hidden auto; flex: 0 0 340px !important; flex-wrap: nowrap; scrollbar-width: thin; gap: 8px; }
#sidebar > * { flex: 0 0 auto; }
#damage-summary p { color: var(--body-text-color-subdued); font-size: 13px; margin: 0; }
#sheet-bar { display: none; }
#weights p { color: var(--body-text-color-subdued); font-size: 13px; margin: 0; }
*:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
.tab-wrapper { height: auto !important; overflow-x: auto; scrollbar-width: none; }
/* All tabs in one bar: Gradio takes out those that do not fit, and adds up widths that are rounded otherwise. */
.tab-container[role="tablist"] { min-width: max-content; padding-right: 8px; overflow: visible; height: auto; }
.overflow-menu { display: none !important; }
.tab-container[role="tablist"] button { flex: 0 0 auto; white-space: nowrap; }
.tab-container button.selected { color: var(--primary-700); }
.dark .tab-container button.selected { color: var(--primary-300); }
@media (max-width: 760px) {
  #sidebar { position: fixed; z-index: 50; inset: auto 0 56px 0; max-height: 50vh; padding: 10px; display: none;
             background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary);
             box-shadow: 0 -6px 24px rgb(0 0 0 / 18%); }
  #sidebar[data-open] { display: flex; }
  #damage, #sidebar > .form:has(#student) { order: -1; }
  #sheet-bar { display: block; position: fixed; z-index: 51; inset: auto 0 0 0; padding: 6px 8px 10px;
               background: var(--body-background-fill); border-top: 1px solid var(--border-color-primary); }
  #sheet-bar button { width: 100%; min-height: 40px; border-radius: 8px; font-weight: 600;
                      background: var(--button-primary-background-fill); color: var(--button-primary-text-color); }
  #header { flex-wrap: wrap; }
  #header > :first-child { flex: 1 1 100%; }
  #header p { font-size: 12px; line-height: 1.3; }
  .example .quiet { font-size: 11px; }
  #attribution-form > .form { flex-direction: column; }
  .seen-card { grid-template-columns: 112px minmax(0, 1fr); }
  .seen-title { grid-column: 1 / -1; }
  #tour { right: 8px; bottom: 64px; }
  /* While the sheet is open all of what it changes fits above it. */
  #sidebar[data-open] ~ div .vx-stage.vx-stage { grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 6px;
    grid-template-areas: "pc tc sc" "pd td sd" "say say say" "bar bar bar" "dbar dbar dbar" "tx tx sx" "nums nums nums"
                         "over over over"; }
  #sidebar[data-open] ~ div .vx-stage :is(.vx-title, .vx-damage) { font-size: 10.5px; letter-spacing: -0.03em; }
}
"""

_OUTSIDE = """
@media (max-width: 760px) {
  .gradio-container .fillable { padding: 8px !important; }
  footer { margin-bottom: 72px !important; }
  footer .show-api, footer .show-api-divider { display: flex !important; }
}
"""
HEAD = f'<style id="vx-style">{stylesheet()}</style><style>{_OUTSIDE}</style>'
"""The views' own rules, which pages of their own take along, and those for what is around the page's content: `css=`
would put Gradio's prefix before each of them."""

SWITCH_THEME = "() => { document.body.classList.toggle('dark'); }"
