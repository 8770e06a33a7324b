using VirtBackup.Cli.Tests.Fixtures;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;

namespace VirtBackup.Cli.Tests;

/// <summary>What verbs ask of a controller, and what they print of its answers.</summary>
public sealed class RemoteVerbTests : ControllerTests
{
    [Theory]
    [InlineData("controller status", "version=1.2.3 agents_enrolled=2 stored_bytes=5242880 free_bytes=null start_time=2031-05-04T12:00:00.000Z", "1 connected of 2")]
    [InlineData("repository status", "location=/srv/backup packs=2 chunks=40 create_time=null generation=9", "5.0 MiB")]
    [InlineData("agent list", "agents.0.name=host-1 agents.0.connected=true agents.0.hypervisor_kind=qemu", "host-1   connected")]
    [InlineData("agent revoke host-1", "name=host-1 revoked=true", "Agent 'host-1' is revoked")]
    [InlineData("vm list", "virtual_machines.0.name=web1 virtual_machines.0.disks.1.skip_reason=excluded", "web1   host-1   running       2   3.0 GiB")]
    [InlineData("vm show web1", "virtual_machine.name=web1 virtual_machine.retention.rule_set=gold recent_jobs.0.kind=backup", "gold: daily 7, within 48 h")]
    [InlineData("vm show web1", "recent_runs.0.verdict=usual recent_runs.0.new_share=0.01 recent_runs.0.usual_stored_share=0.45 recent_runs.0.explanation=null", "30.0 MiB")]
    [InlineData("vm accept web1", "vm=web1 runs_accepted=1 holds_released=4", "1 unusual run of web1 counts as usual from now on; 4 holds are released.")]
    [InlineData("recovery-point list", "recovery_points.0.sequence=1 recovery_points.1.sequence=0 recovery_points.0.consistency=filesystem recovery_points.0.retention.kept_by.1=latest", "ab12cd34ef56   web1     1")]
    [InlineData("recovery-point show web1@latest", "vm=web1 stored_bytes=419430400 streams.0.name=vda retention.verified=true retention.lock_time=2031-05-04T12:00:00.000Z", "2031-05-11 12:00:00")]
    [InlineData("recovery-point forget web1@1 --undo", "forgotten=false", "is back")]
    [InlineData("recovery-point hold web1@1 --reason court", "hold.placed_by=alice recovery_point.vm=web1", "recovery-point release ab12cd34ef560000000000000000000f --hold cc00cc00cc00")]
    [InlineData("recovery-point release web1@1 --hold cc00", "retention.rule_set=gold", "goes as the rules say")]
    [InlineData("recovery-point lock web1@1 --until 2031-05-04T12:00Z", "retention.lock_time=2031-05-04T12:00:00.000Z", "is locked until 2031-05-04 12:00:00")]
    [InlineData("retention list", "rule_sets.0.name=gold rule_sets.0.rules.daily=7 rule_sets.1.is_default=true rule_sets.1.rules.text=everything", "gold       daily 7, within 48 h   -           1")]
    [InlineData("retention show gold", "rule_set.rules.within_hours=48 virtual_machines.0=web1", "daily 7, within 48 h")]
    [InlineData("retention set silver --daily 14 --within 2d", "name=silver rules.daily=14 rules.within_hours=48", "retention attach silver VM")]
    [InlineData("retention delete silver", "deleted=silver", "is deleted")]
    [InlineData("retention attach gold web1", "vm=web1 retention.rule_set=gold", "web1 is governed by: gold: daily 7, within 48 h.")]
    [InlineData("retention detach web1", "retention.is_default=true", "usual (default): everything")]
    [InlineData("retention simulate web1 --daily 7", "interval_minutes=1440 points_at_end=7 recovery_points.0.retention.expire_time=2031-05-11T12:00:00.000Z", "daily 1 of 7, latest")]
    [InlineData("retention apply", "state=succeeded result.retention.points_kept=5 result.retention.expired.0.vm=web1", "no rule of 'gold' (daily 7) keeps it")]
    [InlineData("group list", "groups.0.name=shop groups.0.members.0.agent=null groups.0.members.1.vm=web1 groups.0.skew_bound_ms=1000", "shop    db1 (gone), web1     1,000 ms")]
    [InlineData("group show shop --limit 5", "group_points.0.consistent=true group_points.0.skew_ms=12.3 group_points.1.members.0.state=forgotten", "no, incomplete   db1 (forgotten), web1")]
    [InlineData("group show-point shop@latest", "complete=false inconsistency=db1_has_forgotten_its_recovery_point_of_this_cut. members.1.held=true members.1.failure=null", "at most 12.3 ms, of 1,000 ms")]
    [InlineData("group create shop db1 web1 --skew-bound 250", "name=shop members.1.vm=web1 skew_bound_ms=250", "virtbackup group backup shop")]
    [InlineData("group delete shop", "deleted=shop", "The group 'shop' is deleted.")]
    [InlineData("group backup shop --full --no-quiesce", "state=succeeded result.group_backup.consistent=true result.group_backup.members.0.vm=db1 result.backup=null", "Group backup of web1 succeeded")]
    [InlineData("controller confirm-time", "time=2031-05-04T12:00:00.000Z", "The time is confirmed")]
    [InlineData("job list --limit 1", "jobs.0.state=succeeded jobs.0.result.backup.vm=web1", "77aa55bb1122   backup   web1   succeeded   2031-05-04 12:00:00")]
    [InlineData("job show 77aa", "kind=backup duration_seconds=8 failure=null", "8.0s")]
    [InlineData("job log 77aa", "0.text=frozen_for_3_ms", "frozen for 3 ms")]
    [InlineData("backup run web1", "state=succeeded result.backup.point_id=ab12cd34ef560000000000000000000f result.restore=null", "Backup of web1 succeeded")]
    [InlineData("backup plan web1", "result.backup_plan.disks.0.changed_only=true result.backup_plan.time.vm=web1 result.backup_plan.time.backups=1", "judged by 1 backup of web1 at 128.0 MiB/s")]
    [InlineData("restore run web1@latest --folder /srv/r", "result.restore.name=web1-restored result.restore.details.0.value=4711", "web1-restored (running)")]
    [InlineData("restore run web1@latest --in-place", "result.restore.bytes_compared=3221225472 result.restore.differences.0.captured=raw result.restore.differences_total=2", "3.0 GiB; 2.0 GiB were equal already")]
    [InlineData("restore run web1@latest --replace --keep-replaced --format vda=qcow2 --bus scsi --map-network br0=br1", "result.restore.differences.0.item=disks.vda.format", "disks.vda.format   raw        qcow2")]
    [InlineData("restore plan web1@latest --folder /srv/r", "result.restore_check.findings.0.verdict=fits result.restore_check.estimate.p90_seconds=65 result.restore_check.estimate.record.within_p90=46 result.restore_check.estimate.actual_seconds=null", "The restore is possible.")]
    [InlineData("restore plan web1@latest --folder /srv/r --no-measurement", "result.restore_check.possible=true", "of the last 50 estimates on this path 46 were within P90; median error 8.0%")]
    [InlineData("restore run web1@latest --folder /srv/s", "result.restore.estimate.actual_seconds=50", "42s to 1m 05s; it held")]
    [InlineData("repository status", "collection.finish_time=2031-05-04T12:00:00.000Z collection.problem=null collection.audit_problem=null", "all references were counted right")]
    [InlineData("repository status", "proof.proven_bytes=4194304 proof.days=30 proof.oldest_time=2031-05-04T12:00:00.000Z proof.damages_open=0", "80.0% within 30 days (4.0 MiB of 5.0 MiB)")]
    [InlineData("repository scrub --rate-limit 50MiB", "state=succeeded result.scrub.packs=2 result.scrub.damages_total=0", "5.0 MiB in 2 packs")]
    [InlineData("repository damage list --all", "damages.0.object=packs/22 damages.0.healed_time=2031-05-04T12:00:00.000Z", "packs/22: The pack is missing.")]
    [InlineData("repository damage list", "", "No damage is open.")]
    [InlineData("dependency add web1 --needs db1", "vm=web1 needs.0=db1 probe=started timeout_seconds=null", "it runs (no probe)")]
    [InlineData("dependency remove web1 --needs db1", "vm=web1", "none")]
    [InlineData("dependency list", "machines.0.vm=db1 machines.0.timeout_seconds=90 machines.0.interval_seconds=0.5", "10.0.0.7:5432 accepts connections    1m 30s")]
    [InlineData("dependency show web1", "machines.1.stage=2 machines.1.needs.0=db1", "web1 needs db1; ready when it runs (no probe)")]
    [InlineData("dependency probe db1 --tcp 10.0.0.7:5432 --timeout 90 --interval 0.5", "probe=tcp_10.0.0.7:5432", "10.0.0.7:5432 accepts connections")]
    [InlineData("recovery plan --all --folder /srv/r", "result.recovery.dry_run=true result.recovery.machines.0.ready_judged_by=3 result.recovery.actual_seconds=null", "Without a probe, and so ready as soon as they run: web1.")]
    [InlineData("recovery run --vm web1 --vm db1 --in-place --dry-run", "result.recovery.machines.0.state=planned", "db1 restored 20s → db1 ready 25s → web1 ready 5.0s")]
    [InlineData("recovery run --vm web1 --vm db1 --folder /srv/r --name-suffix -new --parallel 2 --at 2031-05-04T12:00Z --map-network br0=isolated", "state=succeeded result.recovery.machines.1.state=ready result.recovery.parallel=2", "1m 01s; the prediction held")]
    [InlineData("recovery run --group-point shop@latest --replace", "state=succeeded", "1m 01s")]
    [InlineData("recovery list", "recoveries.0.actual_seconds=61 recoveries.0.virtual_machines=2", "50s to 1m 20s   1m 01s   the prediction held")]
    [InlineData("migrate list", "migrations.0.target_agent=host-2 migrations.0.cold=true migrations.0.result.source_kept=true migrations.1.result=null migrations.1.failure=The_folder_is_full.", "web1   host-1   host-2   succeeded")]
    [InlineData("migrate show 77aa", "migration_id=77aa55bb11220000000000000000000c source_copy=retired result.rounds.1.last=true result.downtime_seconds=9 result.interruption.actual_seconds=9", "8.0s to 14s; it held")]
    [InlineData("migrate show disks", "state=failed end_time=2031-05-04T12:00:00.000Z target_copy=none", "The folder is full.")]
    [InlineData("migrate run web1 --to-host host-2 --folder /srv/m", "state=succeeded result.migration.where=/srv/m/web1 result.migration.notes.0=The_guest's_agent_did_not_answer. result.migration_plan=null", "last, machine off")]
    [InlineData("migrate plan web1 --to-host host-2 --folder /srv/m", "result.migration_plan.interruption.record.within_p90=4 result.migration_plan.last_increment_bytes=20971520 result.migration=null", "of the last 4 on this path 4 were within P90; median error 12.0%")]
    [InlineData("migrate run web1 --to-storage /srv/new --dry-run", "result.migration_plan.disks.0.new_path=/srv/new/vda.qcow2 result.migration_plan.estimate=null result.migration_plan.possible=true", "The migration is possible.")]
    [InlineData("migrate remove-source 77aa --yes", "kind=migration state=succeeded", "succeeded")]
    [InlineData("migrate cancel 77aa", "job_id=77aa55bb11220000000000000000000c cancel_requested=true", "77aa55bb1122")]
    [InlineData("repository verify --full", "result.verify.records=7 result.verify.damages_total=0", "none")]
    public Task Verbs_print_json_for_programs_and_tables_for_people(string line, string json, string table) => PrintsForBothAsync(line, json, table);

    [Theory]
    [InlineData("", "exactly one of --folder DIR, --replace and --in-place")]
    [InlineData("--folder /srv/r --in-place", "exactly one of")]
    [InlineData("--in-place --keep-replaced", "belongs to --replace")]
    [InlineData("--folder /srv/r --format vmdk", "raw or qcow2")]
    [InlineData("--folder /srv/r --bus vda=nvme", "virtio, scsi, ide or sata")]
    [InlineData("--folder /srv/r --map-network br0", "OLD=NEW")]
    [InlineData("--folder srv/r", "must be an absolute path")]
    public async Task A_restore_says_what_is_wrong_with_its_choices(string choices, string error) =>
        (await RunAsync(["restore", "run", "web1@latest", .. choices.Split(' ', StringSplitOptions.RemoveEmptyEntries)])).Fails(2, error);

    [Theory]
    [InlineData("recovery run --folder /srv/r", "either --vm VM, once for each, or --group-point GROUP@latest, or --all")]
    [InlineData("recovery run --group-point shop@latest --all --in-place", "Say which machines")]
    [InlineData("recovery run --group-point shop@latest --in-place --at 2031-05-04T03:00", "has its own time")]
    [InlineData("recovery run --all", "exactly one of --folder DIR, --replace and --in-place")]
    [InlineData("recovery run --all --in-place --name-suffix x", "belongs to --folder")]
    [InlineData("recovery run --all --in-place --at noon", "is not a time")]
    [InlineData("dependency probe db1", "exactly one of --guest-agent")]
    [InlineData("dependency probe db1 --guest-agent --timeout 1e9", "at most a day's")]
    public async Task A_recovery_says_what_is_wrong_with_its_choices(string line, string error) => (await RunAsync(line.Split(' '))).Fails(2, error);

    [Fact]
    public async Task A_recovery_that_is_done_in_part_says_so_by_names_and_exit_code()
    {
        Controller.Admin.Failure = (ErrorReason.Incomplete, "1 of 2 machines is ready. web1: was not ready");
        var part = await RunAsync("recovery", "run", "--all", "--in-place");
        Assert.Equal(7, part.ExitCode);
        Assert.Contains("web1: was not ready", part.Output, StringComparison.Ordinal);
        Assert.Contains("error: 1 of 2 machines is ready. web1: was not ready", part.Error, StringComparison.Ordinal);
        Assert.Equal(4, (await RunAsync("recovery", "plan", "--all", "--in-place")).ExitCode);
        (await RunAsync("dependency", "add", "db1", "--needs", "web1")).Fails(4, "db1 needs web1 needs db1");
    }

    [Fact]
    public async Task Unusual_runs_are_told_with_the_reason_and_the_next_step()
    {
        Controller.Admin.IsFlagged = true;
        Assert.Contains("web1: 1 unusual backup run, the points before are held. See: virtbackup vm show web1", (await RunAsync("vm", "list")).Succeeds().Output, StringComparison.Ordinal);
        var shown = (await RunAsync("vm", "show", "web1")).Succeeds().Output;
        Assert.Contains("66 % of the machine was new data.", shown, StringComparison.Ordinal);
        Assert.Contains("virtbackup vm accept web1", shown, StringComparison.Ordinal);
        Assert.Contains("abnormal", shown, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Audits_of_change_tracking_are_told_with_the_odds_the_days_left_and_what_was_missed()
    {
        var audit = new TrackingAudit
        {
            RunTime = Google.Protobuf.WellKnownTypes.Timestamp.FromDateTimeOffset(DateTimeOffset.UnixEpoch), UnchangedBlocks = 3000, AuditedBlocks = 100, AuditedBytes = 100 << 16, Detects1 = 0.0333,
            Detects10 = 0.289, Detects100 = 0.99995, Runs = 30, RunsTaken = 3, RunsLeft = 40, DaysLeft = 20, RotatedBytes = 300 << 16, RotationBytes = 3000 << 16, Cut = true,
        };
        Controller.Admin.Audit = audit;
        var shown = (await RunAsync("vm", "show", "web1")).Succeeds().Output;
        Assert.Contains("1 lost block with 3.330%, 10 with 28.9%, 100 with 99.9950%", shown, StringComparison.Ordinal);
        Assert.Contains("10.0% of 187.5 MiB in 3 runs (planned: all in 30); whole after 40 more runs, in 20 days", shown.ReplaceLineEndings(" "), StringComparison.Ordinal);
        Assert.DoesNotContain("vm accept", shown, StringComparison.Ordinal);
        audit.MissTime = audit.RunTime;
        audit.Miss = "disk vda, 4096 bytes at 8192";
        shown = (await RunAsync("vm", "show", "web1")).Succeeds().Output.ReplaceLineEndings(" ");
        Assert.Contains("change tracking missed a change (disk vda, 4096 bytes at 8192)", shown, StringComparison.Ordinal);
        Assert.Contains("virtbackup vm accept web1", shown, StringComparison.Ordinal);
        var json = (await RunAsync("vm", "show", "web1", "--output", "json")).Succeeds().Json;
        Assert.Equal(("40", "20", "0.0333"), (JsonPaths.ValueAt(json, "tracking_audit.runs_left"), JsonPaths.ValueAt(json, "tracking_audit.days_left"), JsonPaths.ValueAt(json, "tracking_audit.detects1")));
    }

    [Fact]
    public async Task What_is_audited_reaches_the_controller()
    {
        (await RunAsync("backup", "run", "web1", "--audit-runs", "10", "--audit-time-limit", "2m", "--detach")).Succeeds();
        var audit = Controller.Admin.Request<StartBackupRequest>().Options.Audit;
        Assert.Equal((false, 10u, 120u), (audit.Off, audit.Runs, audit.SecondsMax));
        Assert.Equal(2, (await RunAsync("backup", "run", "web1", "--audit-runs", "10", "--no-audit", "--detach")).ExitCode);
        Assert.Equal(2, (await RunAsync("backup", "run", "web1", "--audit-runs", "0", "--detach")).ExitCode);
    }

    [Fact]
    public async Task Damage_is_told_with_what_it_takes_and_the_next_step()
    {
        Controller.Admin.IsDamaged = true;
        var scrub = await RunAsync("repository", "scrub", "--rate-limit", "50MiB");
        Assert.Equal(6, scrub.ExitCode);
        Assert.Contains("records: 1 lost, 0 doubtful, 20 saved", scrub.Output, StringComparison.Ordinal);
        Assert.Contains("virtbackup repository damage list", scrub.Output, StringComparison.Ordinal);
        Assert.Equal(50UL << 20, Controller.Admin.Request<StartScrubRequest>().ReadBytesPerSecondMax);
        var list = await RunAsync("repository", "damage", "list");
        Assert.Equal(6, list.ExitCode);
        Assert.Contains("web1   ab12cd34ef56   vda      1.0 MiB   4.0 KiB   lost", list.Output, StringComparison.Ordinal);
        var status = (await RunAsync("repository", "status")).Succeeds().Output;
        Assert.Contains("1 objects, 1 recovery points", status, StringComparison.Ordinal);
        Assert.Contains("Nothing is deleted.", status, StringComparison.Ordinal);
        Assert.Contains("counted too seldom", status, StringComparison.Ordinal);
        Assert.Contains("damaged", (await RunAsync("recovery-point", "list")).Succeeds().Output, StringComparison.Ordinal);
        var shown = (await RunAsync("recovery-point", "show", "web1@latest", "--output", "json")).Succeeds();
        Assert.Equal(("true", "4096"), (JsonPaths.ValueAt(shown.Json, "damaged"), JsonPaths.ValueAt(shown.Json, "damaged_ranges.0.length")));
        Assert.Contains("Everything else can be restored.", (await RunAsync("recovery-point", "show", "web1@latest")).Succeeds().Output, StringComparison.Ordinal);
    }

    [Fact]
    public async Task What_a_collection_left_alone_is_told()
    {
        var outcome = await RunAsync("repository", "gc", "--dry-run", "--audit", "--rate-limit", "50MiB");
        Assert.NotEqual(0, outcome.ExitCode);
        Assert.Contains("The pack p is damaged.", outcome.Output, StringComparison.Ordinal);
        var request = Controller.Admin.Request<StartCollectionRequest>();
        Assert.Equal((true, true, 50UL << 20), (request.DryRun, request.Audit, request.ReadBytesPerSecondMax));
    }

    [Fact]
    public async Task A_token_stands_alone_on_standard_output()
    {
        var made = (await RunAsync("agent", "token", "--name", "host-1", "--lifetime", "2h")).Succeeds();
        Assert.Equal("vbjoin1.TOKEN\n", made.Output);
        Assert.Contains("virtbackup agent enroll", made.Error);
        var request = Controller.Admin.Request<CreateJoinTokenRequest>();
        Assert.Equal(("host-1", 120u), (request.AgentName, request.LifetimeMinutes));
    }

    [Fact]
    public async Task The_options_of_a_backup_reach_the_controller()
    {
        File.WriteAllText(Home.File("extents"), "# from elsewhere\n0 4096\n65536 512\n");
        (await RunAsync("backup", "run", "web1", "--full", "--exclude-disk", "swap0", "--rate-limit", "1.5MiB", "--no-quiesce", "--quiesce-timeout", "45", "--write-latency-budget", "1.5", "--changed-extents", "vda=" + Home.File("extents"), "--detach")).Succeeds();
        var request = Controller.Admin.Request<StartBackupRequest>();
        Assert.Equal("web1", request.Vm);
        Assert.Equal(32, request.RequestId.Length);
        Assert.True(request.Options.Full && request.Options.SkipQuiesce);
        Assert.Equal(1_572_864ul, request.Options.ReadBytesPerSecondMax);
        Assert.Equal((45u, 1.5), (request.Options.QuiesceTimeoutSeconds, request.Options.WriteLatencyFactorMax));
        Assert.Equal("swap0", Assert.Single(request.Options.ExcludedDisks));
        Assert.Equal([0ul, 4096, 65536, 512], Assert.Single(request.Options.ChangedExtents).OffsetLength);
    }

    [Fact]
    public async Task The_options_of_retention_reach_the_controller()
    {
        (await RunAsync("retention", "set", "gold", "--last", "1", "--hourly", "2", "--daily", "3", "--weekly", "4", "--monthly", "5", "--yearly", "6", "--within", "90m", "--default")).Succeeds();
        var set = Controller.Admin.Request<SetRuleSetRequest>();
        Assert.Equal(new RetentionRules { KeepLast = 1, KeepHourly = 2, KeepDaily = 3, KeepWeekly = 4, KeepMonthly = 5, KeepYearly = 6, KeepWithinHours = 2 }, set.Rules);
        Assert.Equal(("gold", SetRuleSetRequest.Types.Default.Yes), (set.Name, set.Default));
        (await RunAsync("retention", "simulate", "web1", "--rule-set", "gold", "--interval", "1h", "--for", "90d", "--verified")).Succeeds();
        Assert.Equal(
            new SimulateRetentionRequest { Vm = "web1", RuleSet = "gold", IntervalMinutes = 60, Days = 90, FurtherAreVerified = true }, Controller.Admin.Request<SimulateRetentionRequest>());
        (await RunAsync("recovery-point", "lock", "web1@1", "--until", "2031-05-04")).Succeeds();
        Assert.Equal("2031-05-04T00:00:00Z", Controller.Admin.Request<LockPointRequest>().Until.ToDateTimeOffset().ToString("yyyy-MM-dd'T'HH:mm:ss'Z'", System.Globalization.CultureInfo.InvariantCulture));
    }

    [Fact]
    public async Task Refusals_of_retention_name_the_next_step()
    {
        (await RunAsync("retention", "show", "none")).Fails(5, "no rule set 'none'", "virtbackup retention list");
        (await RunAsync("retention", "attach", "none", "web1")).Fails(5, "no rule set 'none'", "virtbackup retention list");
        (await RunAsync("retention", "delete", "gold")).Fails(4, "detach it", "virtbackup retention show gold");
        (await RunAsync("retention", "set", "gold")).Fails(2, "Say what the rule set keeps", "retention set --help");
        (await RunAsync("retention", "set", "gold", "--daily", "7", "--everything")).Fails(2, "Say what the rule set keeps");
        (await RunAsync("retention", "set", "gold", "--within", "soon")).Fails(2, "'soon' is not a span of time");
        (await RunAsync("recovery-point", "lock", "web1@1")).Fails(2, "Say when the lock ends");
        (await RunAsync("recovery-point", "lock", "web1@1", "--until", "tomorrow")).Fails(2, "'tomorrow' is not a time");
        Controller.Admin.TimeIsUnconfirmed = true;
        Assert.Contains("virtbackup controller confirm-time", (await RunAsync("controller", "status")).Succeeds().Output);
    }

    [Fact]
    public async Task What_is_asked_of_a_group_reaches_the_controller_and_refusals_name_the_next_step()
    {
        (await RunAsync("group", "backup", "shop", "--full", "--rate-limit", "1MiB", "--detach")).Succeeds();
        var backup = Controller.Admin.Request<StartGroupBackupRequest>();
        Assert.Equal(("shop", 32, new BackupOptions { Full = true, ReadBytesPerSecondMax = 1 << 20 }), (backup.Name, backup.RequestId.Length, backup.Options));
        (await RunAsync("group", "add", "shop", "db2", "--skew-bound", "40")).Succeeds();
        Assert.Equal(new ChangeGroupRequest { Name = "shop", AddVms = { "db2" }, SkewBoundMs = 40 }, Controller.Admin.Request<ChangeGroupRequest>());
        (await RunAsync("group", "remove", "none", "db2")).Fails(5, "no group 'none'", "virtbackup group list");
        (await RunAsync("group", "add", "shop")).Fails(2, "Name virtual machines", "virtbackup group add --help");
        (await RunAsync("group", "create", "shop", "--skew-bound", "0")).Fails(2, "between 1 and 60000");
        Assert.Equal(["shop"], await CompleteAsync("virtbackup group show s"));
        Assert.Equal(["shop@latest"], await CompleteAsync("virtbackup group show-point "));
    }

    [Fact]
    public async Task A_failed_job_has_its_reason_its_log_and_still_its_json()
    {
        Controller.Admin.Failure = (ErrorReason.DeviceFull, "The scratch space of host-1 is full.");
        (await RunAsync("backup", "run", "web1")).Fails(1, "scratch space", "virtbackup job log 77aa55bb1122");
        var forPrograms = await RunAsync("backup", "run", "web1", "-o", "json");
        Assert.Equal(1, forPrograms.ExitCode);
        Assert.Equal(("failed", "device_full"), (JsonPaths.ValueAt(forPrograms.Json, "state"), JsonPaths.ValueAt(forPrograms.Json, "failure.reason")));
    }

    [Theory]
    [InlineData("repository verify")]
    [InlineData("recovery-point verify web1@latest")]
    public async Task Damage_is_listed_and_has_its_own_exit_code(string line)
    {
        Controller.Admin.Verification = new VerifyResult
        {
            Objects = 3, DamagesTotal = 1,
            Damages = { new Damage { Object = "packs/ab", Problem = "The checksum is wrong.", Ranges = { new DamagedRange { PointId = FakeAdmin.PointId, VmName = "web1", StreamName = "vda", Offset = 4096, Length = 8192 } } } },
        };
        var outcome = await RunAsync(line.Split(' '));
        Assert.Equal(6, outcome.ExitCode);
        Assert.Contains("packs/ab: The checksum is wrong.", outcome.Output);
        Assert.Contains("web1 ab12cd34ef56 vda: 8.0 KiB from 4.0 KiB", outcome.Output);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_interrupt_leaves_the_job_or_cancels_it(bool cancel)
    {
        Controller.Admin.JobsStay = true;
        using var process = CommandLine.Start(Home, ["backup", "run", "web1", "--credentials", Credentials, .. cancel ? ["--cancel-on-interrupt"] : Array.Empty<string>()]);
        await Controller.Admin.Watched.Task.WaitAsync(TimeSpan.FromSeconds(30), TestContext.Current.CancellationToken);
        using (var kill = System.Diagnostics.Process.Start("kill", ["-INT", $"{process.Id}"]))
        {
            await kill.WaitForExitAsync(TestContext.Current.CancellationToken);
        }
        var outcome = await CommandLine.EndAsync(process);
        Assert.Equal(130, outcome.ExitCode);
        Assert.Equal(cancel, Controller.Admin.Requests.OfType<CancelJobRequest>().Any());
        Assert.Contains(cancel ? "was cancelled" : "goes on", outcome.Error);
    }

    [Fact]
    public async Task Completion_knows_names_options_and_what_the_controller_has()
    {
        Assert.Equal(["web1"], await CompleteAsync("virtbackup backup run w"));
        Assert.Equal(["web1@latest", "web1@1"], (await CompleteAsync("virtbackup restore run web1@")).OrderDescending());
        Assert.Equal(["ab12cd34ef56"], await CompleteAsync("virtbackup recovery-point show ab"));
        Assert.Equal(["host-1"], await CompleteAsync("virtbackup agent revoke "));
        Assert.Equal(["gold"], await CompleteAsync("virtbackup retention attach g"));
        Assert.Equal(["web1"], await CompleteAsync("virtbackup retention attach gold w"));
        Assert.Equal(["usual"], await CompleteAsync("virtbackup retention simulate web1 --rule-set u"));
        Assert.Equal(["run"], await CompleteAsync("virtbackup backup r"));
        Assert.Equal(["--full"], await CompleteAsync("virtbackup backup run web1 --fu"));
        Assert.Equal(["json"], await CompleteAsync("virtbackup vm list --output j"));
    }

    /// <summary>A real shell on a terminal of its own: what Tab makes of a word, the shell then prints.</summary>
    [Theory]
    [InlineData("virtbackup restore run web1@l", "virtbackup restore run web1@latest")]
    [InlineData("virtbackup backup run w", "virtbackup backup run web1")]
    [InlineData("virtbackup repository rebu", "virtbackup repository rebuild-index")]
    [InlineData("virtbackup repository g", "virtbackup repository gc")]
    public async Task Bash_completes_on_tab(string typed, string completed)
    {
        UseStandardCredentials();
        using var shell = CommandLine.Terminal(Home, "bash --norc --noprofile -i");
        await shell.StandardInput.WriteAsync($"eval \"$(virtbackup completion bash)\"\n{typed}\t\u0001echo \nexit\n");
        var outcome = await CommandLine.EndAsync(shell);
        Assert.Contains(completed, outcome.Output.Split('\n', '\r').Select(static line => line.Trim()));
    }

    private async Task<string[]> CompleteAsync(string line)
    {
        UseStandardCredentials();
        var outcome = (await CommandLine.RunAsync(Home, "complete", $"{line.Length}", line)).Succeeds();
        Assert.Empty(outcome.Error);
        return outcome.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private void UseStandardCredentials()
    {
        // Where the program looks when nothing is said.
        var standard = Path.Combine(Home.Path, ".config", "virtbackup");
        if (!Directory.Exists(standard))
        {
            Directory.CreateDirectory(Path.GetDirectoryName(standard)!);
            Directory.CreateSymbolicLink(standard, Credentials);
        }
    }
}
