using VirtBackup.Proofs.StateResume;
using VirtBackup.Testing.CommandLine;
using VirtBackup.Testing.Proofs;

LoadedCommandLine.Install();
return await ProofProgram.RunAsync(new StateResumeProof(), args);
