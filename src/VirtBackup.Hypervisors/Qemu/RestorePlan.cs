using VirtBackup.Core;
using VirtBackup.Hypervisors.Images;
using VirtBackup.Hypervisors.Moving;
using VirtBackup.Hypervisors.Qemu.Comparing;
using VirtBackup.Hypervisors.State;
using VirtBackup.Hypervisors.Targets;

namespace VirtBackup.Hypervisors.Qemu;

/// <summary>What a restore will do, worked out before a byte moves; and everything found on the way.</summary>
internal sealed record RestorePlan(
    ArgvDocument Document, string Executable, string WorkingDirectory, IReadOnlyList<ImageReplacement> Images, IReadOnlyList<FlashReplacement> Flash,
    RewrittenArgv Launch, IReadOnlyList<RestoreFinding> Findings)
{
    /// <summary>The machine's TPM, whose state is made anew; null: none is in the recovery point.</summary>
    public TpmPlacement? Tpm { get; init; }

    /// <summary>The running state to go on from; null: the machine boots.</summary>
    public StateFiles? State { get; init; }

    /// <summary>What is written beside the disks of a machine that exists.</summary>
    public IReadOnlyList<ContentFile> Contents => [.. Flash.Select(flash => new ContentFile(flash.File.NewFile, flash.Bytes, IsSecret: false)), .. Tpm?.Files ?? []];

    /// <summary>What is made in the folder of a new machine beside its images, now or when it runs.</summary>
    public IEnumerable<string> ListOthers(RestoreRequest request)
    {
        var files = LaunchFiles.For(request, Images);
        return [.. Flash.Select(flash => flash.File.NewFile), .. Tpm is { } tpm ? [tpm.Folder + "/", tpm.Socket.New] : Array.Empty<string>(), files.Script, files.Record, files.Log,
            .. MachineFolder.FindPaths(request.Folder, Launch.Arguments)];
    }

    public bool Refused => Findings.Any(finding => finding.Severity == FindingSeverity.Blocks);
}

/// <summary>A flash file of the firmware that is made anew.</summary>
internal sealed record FlashReplacement(ImageReplacement File, ReadOnlyMemory<byte> Bytes);

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
        if (request.Placement == RestorePlacement.InPlace && LastSeen.Read(context.Options.StateFolder, request.Machine) is { } seen)
        {
            // The disks are where the machine has them now, and it is started as it was started last.
            document = seen with { Tpm = seen.Tpm ?? document.Tpm };
        }
        var names = new ImageFileNames();
        var images = CheckDisks(request, document, names, findings);
        var flash = CheckFlash(request, document, names, findings);
        var tpm = request.Contents.FirstOrDefault(content => content.Kind == MachineContentKind.Tpm) is { } state ? TpmPlacement.Plan(request, document, state, findings) : null;
        if (request.Placement == RestorePlacement.NewFolder)
        {
            findings.AddRange(RestoreFolder.Check(request, isMachine: true, context.Moving));
            findings.AddRange(request.Adopt ? Adoption.Check(context.Moving, request) : []);
        }
        else
        {
            await new ExistingMachine(context, request).CheckAsync(images, findings, cancellationToken);
        }
        findings.AddRange(request.Placement == RestorePlacement.NewFolder
            ? await new IdentityComparison(machines).CompareAsync(request, cancellationToken) : await FindRunningAsync(request, document, cancellationToken));
        var executable = FindExecutable(document.Executable, findings);
        await CompareAsync(request, document, executable, findings, cancellationToken);
        var directory = Directory.Exists(document.WorkingDirectory) ? document.WorkingDirectory : "/";
        // Where single disks go back in place of old ones, nothing is started.
        var launch = request.DisksOnly
            ? new RewrittenArgv(document.Arguments, request.Machine, document.QmpSocket, document.GuestAgentSocket, [])
            : new ArgvRewriter(document, request, [.. images, .. flash.Select(file => file.File)], context.Entropy) { TpmSocket = tpm?.Socket }.Rewrite();
        findings.AddRange(launch.Findings);
        if (request.State is not null && new StoredFacts(request.Configuration).MachineType is { } type)
        {
            launch = launch with { Arguments = StateComparison.Pin(launch.Arguments, type) };
        }
        return new RestorePlan(document, executable ?? document.Executable, directory, images, flash, launch, findings) { Tpm = tpm };
    }

    private static List<ImageReplacement> CheckDisks(RestoreRequest request, ArgvDocument document, ImageFileNames names, List<RestoreFinding> findings)
    {
        var images = new List<ImageReplacement>();
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
            var existing = Path.GetFullPath(stored.File, document.WorkingDirectory);
            images.Add(request.Placement switch
            {
                RestorePlacement.NewFolder => new ImageReplacement(stored.File, Path.Combine(request.Folder, $"{names.Add(disk.Name)}.{disk.Format}"), disk.Format, disk.Name),
                RestorePlacement.Replace => new ImageReplacement(stored.File, existing, disk.Format, disk.Name),
                _ => new ImageReplacement(stored.File, existing, stored.Format, disk.Name),
            });
        }
        return images;
    }

    private static List<FlashReplacement> CheckFlash(RestoreRequest request, ArgvDocument document, ImageFileNames names, List<RestoreFinding> findings)
    {
        var flash = new List<FlashReplacement>();
        foreach (var content in request.Contents.Where(content => content.Kind == MachineContentKind.Nvram))
        {
            if (document.Disks.FirstOrDefault(candidate => candidate.Id == content.Id.ToString()) is not { } stored)
            {
                findings.Add(new RestoreFinding("firmware", FindingSeverity.Adapts, $"The stored {content.Kind} {content.Name} cannot be recreated: the configuration does not know it."));
                continue;
            }
            var place = request.Placement == RestorePlacement.NewFolder
                ? Path.Combine(request.Folder, $"{names.Add(content.Name)}.fd") : Path.GetFullPath(stored.File, document.WorkingDirectory);
            findings.Add(new RestoreFinding("firmware", FindingSeverity.Fits, $"The firmware's variables are restored as {place}."));
            flash.Add(new FlashReplacement(new ImageReplacement(stored.File, place, "raw", content.Name), content.Bytes));
        }
        return flash;
    }

    /// <summary>The machine that is to be written to must not run.</summary>
    private async Task<IReadOnlyList<RestoreFinding>> FindRunningAsync(RestoreRequest request, ArgvDocument document, CancellationToken cancellationToken)
    {
        var findings = new List<RestoreFinding>();
        var known = machines.Where(machine => machine.Uuid == request.Machine || machine.Name == request.Name)
            .Append(new QemuMachine(request.Machine, request.Name, document.QmpSocket)).DistinctBy(machine => machine.QmpSocket);
        foreach (var machine in known)
        {
            // Listening is enough: a monitor that is busy or refuses belongs to a running machine, too.
            if (await JsonLineSocket.IsListeningAsync(machine.QmpSocket, cancellationToken))
            {
                findings.Add(Blocks("identity", $"The machine {machine.Name} ({machine.Uuid.ToUuidString()}) is running on this host. Shut it down first."));
            }
        }
        return findings;
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
        var hardware = await new HardwareComparison(programs).CompareAsync(comparison, cancellationToken);
        findings.AddRange(hardware);
        findings.AddRange(StateComparison.Compare(comparison, hardware));
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
        var other = ProgramPath.Find(Path.GetFileName(stored));
        findings.Add(other is null
            ? Blocks("program", $"{stored} is not installed on this host. Install it, or restore on another host.")
            : new RestoreFinding("program", FindingSeverity.Adapts, $"{other} takes the place of {stored}."));
        return other;
    }

    private static RestoreFinding Blocks(string item, string message) => new(item, FindingSeverity.Blocks, message);
}
