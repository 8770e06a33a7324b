using VirtBackup.Proofs.KillController;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new KillControllerProof(), args);
