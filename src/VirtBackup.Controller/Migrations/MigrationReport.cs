using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Catalog.Migrations;
using VirtBackup.Protocol.Admin.V1;
using VirtBackup.Protocol.Common.V1;
using AgentMessages = VirtBackup.Protocol.Agent.V1;

namespace VirtBackup.Controller.Migrations;

/// <summary>What a migration has done so far: its result, as far as it is known, and the progress of its job. Only one call at a time.</summary>
internal sealed class MigrationReport(MigrationParts parts, MigrationRow first)
{
    private const int NotesMax = 64;
    private const int NoteCharsMax = 1024;

    private readonly MigrationResult _result = first.Result.Length > 0 ? MigrationResult.Parser.ParseFrom(first.Result) : new MigrationResult { SourceKept = true };

    /// <summary>Why the target refuses; null: it does not, or was not asked.</summary>
    public string? Blocked { get; private set; }

    public RestoreEstimate? Estimate => _result.Estimate;

    /// <summary>Read by the last increment.</summary>
    public long LastRoundBytes => _result.Rounds.Count > 0 ? (long)_result.Rounds[^1].BytesRead : 0;

    /// <summary>Read by the one before it.</summary>
    public long RoundBytesBefore => _result.Rounds.Count > 1 ? (long)_result.Rounds[^2].BytesRead : long.MaxValue;

    public byte[] ToBytes()
    {
        _result.ElapsedSeconds = Math.Max(0, (parts.Time.NowMs() - first.CreatedMs) / 1000.0);
        return _result.ToByteArray();
    }

    /// <summary>What the step does, for the job's log.</summary>
    public static string Describe(MigrationRow row, string agent) => row.Step switch
    {
        MigrationStep.Checking => $"Comparing the machine with {agent}.",
        MigrationStep.Copying when row.Round == 0 => "Copying the whole machine to the repository while it runs.",
        MigrationStep.Copying => $"Copying what changed, round {row.Round}.",
        MigrationStep.Restoring => $"Making its disks on {agent}.",
        MigrationStep.Applying => $"Bringing the disks on {agent} up to date, round {row.Round}.",
        MigrationStep.Stopping => $"Stopping the machine on {agent}.",
        MigrationStep.LastCopying => "Copying what changed last.",
        MigrationStep.LastApplying => $"Bringing the disks on {agent} up to date for the last time.",
        MigrationStep.Retiring => $"Taking the copy on {agent} out of use.",
        MigrationStep.Starting => $"Starting the machine on {agent}.",
        MigrationStep.RemovingSource => $"Deleting the copy on {agent}.",
        MigrationStep.MovingStorage => $"Moving disks on {agent}.",
        MigrationStep.HaltingTarget => $"Going back: making sure that the machine does not run on {agent}.",
        MigrationStep.ClearingTarget or MigrationStep.RemovingTarget => $"Going back: removing the copy on {agent}.",
        MigrationStep.Reinstating => $"Going back: bringing the copy on {agent} back into use.",
        _ => $"Going back: the machine goes on, on {agent}.",
    };

    /// <summary>A short name of the step, as it is stored and shown.</summary>
    public static string PhaseOf(MigrationRow row) => row.Step switch
    {
        MigrationStep.Copying when row.Round > 0 => $"round {row.Round}: copying",
        MigrationStep.Applying => $"round {row.Round}: applying",
        MigrationStep.LastCopying => "last copying",
        MigrationStep.LastApplying => "last applying",
        MigrationStep.RemovingSource => "removing the source's copy",
        MigrationStep.MovingStorage => "moving disks",
        MigrationStep.HaltingTarget => "going back: halting the target",
        MigrationStep.ClearingTarget or MigrationStep.RemovingTarget => "going back: removing the target's copy",
        MigrationStep.Reinstating => "going back: reinstating the source",
        MigrationStep.RestartingSource => "going back: starting the source",
        _ => row.Step.ToString().ToLowerInvariant(),
    };

    /// <summary>Tells the job of the migration how far the step's job is.</summary>
    public async ValueTask FollowAsync(MigrationRow row, JobRow job, CancellationToken cancellationToken)
    {
        var now = job.Progress.Length > 0 ? Progress.Parser.ParseFrom(job.Progress) : new Progress();
        var before = _result.BytesRead + _result.BytesWritten;
        await parts.Jobs.ProgressAsync(
            row.MigrationId,
            new Progress
            {
                Phase = WireText.Shortened(PhaseOf(row), 64), BytesTotal = now.BytesTotal == 0 ? 0 : before + now.BytesTotal, BytesDone = before + now.BytesDone, BytesSent = now.BytesSent, Estimate = now.Estimate,
            }.ToByteArray(),
            cancellationToken);
    }

    public void Note(string text)
    {
        if (_result.Notes.Count < NotesMax)
        {
            _result.Notes.Add(WireText.Shortened(text, NoteCharsMax));
        }
    }

    public void NoteCheck(JobRow job)
    {
        var check = AgentMessages.CheckRestoreResult.Parser.ParseFrom(job.Result);
        _result.Estimate = check.Estimate;
        Blocked = string.Join(" ", check.Findings.Where(static finding => finding.Severity == RestoreFinding.Types.Severity.Blocks).Select(static finding => finding.Message));
    }

    public void NotePrediction(InterruptionEstimate predicted) => _result.Interruption = predicted;

    /// <returns>Bytes read.</returns>
    public long NoteCopy(MigrationRow row, JobRow job, bool isLast)
    {
        var backup = job.Result.Length > 0 ? AgentMessages.BackupResult.Parser.ParseFrom(job.Result) : new AgentMessages.BackupResult();
        _result.BytesRead += backup.BytesRead;
        _result.Rounds.Add(new MigrationRound { Number = (uint)row.Round, PointId = job.PointId.ToString(), BytesRead = backup.BytesRead, BackupSeconds = job.RunSeconds, Last = isLast });
        return (long)backup.BytesRead;
    }

    public void NoteApplied(JobRow job)
    {
        var restored = AgentMessages.RestoreResult.Parser.ParseFrom(job.Result);
        _result.BytesWritten += restored.BytesWritten;
        if (_result.Rounds.Count > 0)
        {
            _result.Rounds[^1].BytesWritten = restored.BytesWritten;
            _result.Rounds[^1].ApplySeconds = job.RunSeconds;
        }
        if (restored.Estimate is { } estimate && _result.Rounds.Count <= 1)
        {
            _result.Estimate = estimate;
        }
        if (restored.Details.FirstOrDefault(static detail => detail.Name == "folder") is { } folder)
        {
            _result.Where = folder.Value;
        }
    }

    /// <returns>Whether the machine was off before. An attempt behind the first cannot know: the one before may have stopped it.</returns>
    public static bool WasOff(JobRow job) =>
        job.Attempt == 1 && job.Result.Length > 0 && !AgentMessages.StopMachineResult.Parser.ParseFrom(job.Result).WasRunning;

    public void NoteStarted(MigrationRow row, double downtime)
    {
        _result.DowntimeSeconds = downtime;
        _result.Interruption?.ActualSeconds = downtime;
        NoteRetired(row);
    }

    public void NoteRetired(MigrationRow row) =>
        Note($"The copy on {row.SourceAgent} is retired. When the machine is known to be well, delete it: virtbackup migrate remove-source {row.MigrationId}");

    public void NoteSourceRemoved()
    {
        _result.SourceKept = false;
        _result.Notes.Clear();
    }

    /// <returns>Seconds for which the machine stood still.</returns>
    public double NoteStorage(JobRow job)
    {
        _result.Storage = StorageMoveResult.Parser.ParseFrom(job.Result);
        _result.BytesWritten = _result.Storage.BytesMoved;
        _result.SourceKept = _result.Storage.KeptPaths.Count > 0;
        return _result.DowntimeSeconds = _result.Storage.InterruptionUs / 1e6;
    }
}
