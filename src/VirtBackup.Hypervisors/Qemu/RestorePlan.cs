using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Qemu.Comparing;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>What a restore will do, worked out before a byte moves; and everything found on the way.</summary>
internal sealed record RestorePlan(
    ArgvDocument Document, string Executable, string WorkingDirectory, IReadOnlyList<ImageReplacement> Images, RewrittenArgv Launch, IReadOnlyList<RestoreFinding> Findings)
{
    public bool Refused => Findings.Any(finding => finding.Severity == FindingSeverity.Blocks);
}

/// <summary>Compares a stored machine with this host. Writes nothing.</summary>
internal sealed class RestorePlanner(QemuDriverContext context, IReadOnlyList<QemuMachine> machines, ProgramSurvey programs)
{
    public async Task<RestorePlan> PlanAsync(RestoreRequest request, CancellationToken cancellationToken)
    {
        var findings = new List<RestoreFinding>();
        if (request.Configuration.NativeKind != ArgvDocument.Kind)
        {
            throw new FaultException(FaultReason.Unsupported,
                $"The recovery point was made on the platform '{request.HypervisorKind}' and holds a '{request.Configuration.NativeKind}' configuration; this driver restores '{ArgvDocument.Kind}'.");
        }
        var document = ArgvDocument.Read(request.Configuration.Native.Span);
        var images = CheckDisks(request, document, findings);
        findings.AddRange(RestoreFolder.Check(request, isMachine: true));
        findings.AddRange(await new IdentityComparison(machines).CompareAsync(request, cancellationToken));
        var executable = FindExecutable(document.Executable, findings);
        await CompareAsync(request, document, executable, findings, cancellationToken);
        var directory = Directory.Exists(document.WorkingDirectory) ? document.WorkingDirectory : "/";
        var launch = new ArgvRewriter(document, request, images, context.Entropy).Rewrite();
        findings.AddRange(launch.Findings);
        return new RestorePlan(document, executable ?? document.Executable, directory, images, launch, findings);
    }

    private static List<ImageReplacement> CheckDisks(RestoreRequest request, ArgvDocument document, List<RestoreFinding> findings)
    {
        var images = new List<ImageReplacement>();
        var names = new ImageFileNames();
        foreach (var disk in request.Disks)
        {
            findings.Add(disk.Format is "qcow2" or "raw"
                ? new RestoreFinding("disk format", FindingSeverity.Fits, $"Disk {disk.Name} is made as {disk.Format}.")
                : Blocks("disk format", $"Disk {disk.Name} is to be made as '{disk.Format}'; qcow2 and raw are possible."));
            if (disk.LengthBytes is < 0 or > Limits.DiskBytesMax || disk.LengthBytes % 512 != 0)
            {
                findings.Add(Blocks("disk", $"Disk {disk.Name} has {disk.LengthBytes} bytes; a disk has whole sectors of 512 bytes."));
            }
            var stored = document.Disks.FirstOrDefault(candidate => candidate.Id == disk.Id.ToString());
            if (stored is null)
            {
                findings.Add(Blocks("disk", $"The stored configuration does not know disk {disk.Name}."));
                continue;
            }
            images.Add(new ImageReplacement(stored.File, Path.Combine(request.Folder, $"{names.Add(disk.Name)}.{disk.Format}"), disk.Format, disk.Name));
        }
        return images;
    }

    private async Task CompareAsync(
        RestoreRequest request, ArgvDocument document, string? executable, List<RestoreFinding> findings, CancellationToken cancellationToken)
    {
        var options = Argv.Parse(document.Arguments);
        (string, ProgramAbilities)? program = null;
        if (executable is not null)
        {
            try
            {
                program = (executable, await programs.ReadAsync(executable, AcceleratorChoice.Of(options).Taken ?? "tcg", cancellationToken));
            }
            catch (FaultException fault) when (fault.Reason is FaultReason.FailedPrecondition or FaultReason.Unsupported)
            {
                findings.Add(Blocks("program", $"{fault.Message} Repair or update it."));
            }
        }
        var comparison = new Comparison(request, document, options, new StoredFacts(request.Configuration), program);
        findings.AddRange(await new HardwareComparison(programs).CompareAsync(comparison, cancellationToken));
        findings.AddRange(FirmwareComparison.Compare(comparison));
        findings.AddRange(DeviceComparison.Compare(comparison, Path.IsPathFullyQualified(request.Folder) ? TargetStorage.Of(request.Folder) : null));
        findings.AddRange(NetworkComparison.Compare(comparison));
    }

    private static string? FindExecutable(string stored, List<RestoreFinding> findings)
    {
        if (File.Exists(stored))
        {
            findings.Add(new RestoreFinding("program", FindingSeverity.Fits, $"{stored} is there."));
            return stored;
        }
        var name = Path.GetFileName(stored);
        var other = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Select(folder => Path.Combine(folder, name)).FirstOrDefault(File.Exists);
        findings.Add(other is null
            ? Blocks("program", $"{stored} is not installed on this host. Install it, or restore on another host.")
            : new RestoreFinding("program", FindingSeverity.Adapts, $"{other} takes the place of {stored}."));
        return other;
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
